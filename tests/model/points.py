"""What writers and receivers of the model share: a look at lists, a point put, one relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.world import Point, ViolationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.world import Limits, List, World, Writer


def views(
    limits: Limits, lists: tuple[List, ...], noted: int = -1
) -> Iterator[tuple[int, tuple[List, ...]]]:
    """Yield what a look may show: the highest epoch, and the lists.

    ``noted`` is the epoch of a session that began; without it the look is its first.
    """
    if limits.is_blind and noted >= 0:
        shown = tuple(one for one in lists if one.epoch <= noted)
        yield max(_highest(shown), noted), shown
        return
    yield _highest(lists), lists
    if limits.shows_late and any(one.age == 0 for one in lists):
        shown = tuple(one for one in lists if one.age)
        yield _highest(shown), shown


def rivals_of(world: World, writer: Writer) -> tuple[tuple[int, int], ...]:
    """Return the points of other sessions, as the rules ask for them."""
    return tuple((p.seq, p.session) for p in world.points if p.session != writer.session)


def check_approved(limits: Limits, world: World, writer: Writer) -> None:
    """Make sure that a point which is about to be put is whole; raise ``ViolationError``."""
    if writer.session not in {p.number for p in world.packs} and not limits.is_blind:
        raise ViolationError("a look approves of a session whose pack is gone")


def with_point(world: World, writer: Writer) -> World:
    """Return the world after the put of a writer's point; a second one changes nothing."""
    newest = max((p.seq for p in world.points), default=0)
    if newest > writer.seq or any(p.session == writer.session for p in world.points):
        return world  # behind others it is listed by nobody: the manifest knows newer ones
    point = Point(
        writer.seq, writer.session, writer.noted, (writer.image[0], writer.image[1]), 0,
        is_good=writer.age <= 1,
    )  # fmt: skip
    forked = newest == writer.seq
    return world._replace(points=(*world.points, point), is_forked=world.is_forked or forked)


def acknowledged(world: World, writer: Writer) -> World:
    """Return the world in which a writer relies on its point.

    Raises:
        ViolationError: it must not.
    """
    mine = next((p for p in world.points if p.session == writer.session), None)
    if mine is None:
        raise ViolationError("acknowledged: a point that stands behind others")
    if any(p.seq == mine.seq and p.is_trusted and p != mine for p in world.points):
        raise ViolationError("acknowledged: two points in one place")
    points = tuple(p._replace(is_trusted=True) if p == mine else p for p in world.points)
    return world._replace(points=points)


def _highest(lists: tuple[List, ...]) -> int:
    return max((one.epoch for one in lists), default=0)
