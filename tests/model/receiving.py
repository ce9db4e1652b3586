"""What receivers of the model do for a put, each by itself, and what a writer makes of it.

    writer      in time? ─▶ send ───────────────────────────▶ in time? ─▶ acknowledged, or look
    receiver              look at epoch and chain · put · look, answer

Whoever sent it may die, or repeat it at another receiver: what was sent goes on, and the point may
land at any later moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.points import acknowledged, check_approved, rivals_of, views, with_point
from tests.model.world import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.rules import Rules
    from tests.model.world import Limits, World

_GOES_ON = ("sent", "checked")
UNDER_WAY = (*_GOES_ON, "landed", "approved")


class Receiving:
    """The steps of receivers; a put is known by its writer, as that was when it sent it."""

    def __init__(self, limits: Limits, rules: Rules) -> None:
        self.limits, self.rules = limits, rules

    def send(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        """Yield what a writer does whose packs are there."""
        if self._is_in_time(writer):
            yield "sends its point", world, writer._replace(pc="sent")
        else:
            yield "is late", world, writer._replace(pc="told")

    def steps(self, world: World, put: Writer) -> Iterator[tuple[str, World, Writer]]:
        """Yield what becomes of a put, and of the writer if it waits for it."""
        step = {"sent": self._look, "checked": self._put, "landed": self._answer}[put.pc]
        yield from step(world, put)

    def left(self, world: World, put: Writer) -> Iterator[tuple[str, World, Writer]]:
        """Yield what a writer does that hears nothing; its put goes on, or never gets on again."""
        alone = world
        if put.pc != "landed":
            late = put._replace(pc="checked" if put.pc == "approved" else put.pc, repeats=0)
            alone = world._replace(late=tuple(sorted((*world.late, late))))
        yield "dies, not its put", alone, Writer()
        if put.pc != "approved" and put.repeats < self.limits.repeats:
            yield "repeats its put", alone, put._replace(pc="sent", repeats=put.repeats + 1)

    def late_steps(self, world: World) -> Iterator[tuple[str, World]]:
        """Yield what may become of puts that nobody waits for."""
        for at, put in enumerate(world.late):
            others = (*world.late[:at], *world.late[at + 1 :])
            for label, after, changed in self.steps(world, put):
                left = (*others, changed) if changed.pc in _GOES_ON else others
                label = f"a put of {put.session}, late: {label}"
                yield label, after._replace(late=tuple(sorted(left)))

    def _look(self, world: World, put: Writer) -> Iterator[tuple[str, World, Writer]]:
        if any(p.session == put.session for p in world.points):
            yield "finds it there", world, put._replace(pc="landed", is_found=True)
            return
        if max((p.seq for p in world.points), default=0) >= put.seq:
            yield "its place is taken", world, Writer()
            return
        for seen, _ in views(self.limits, world.lists, put.noted):
            if self.rules.may_put(put.noted, seen):
                check_approved(self.limits, world, put)
                yield "a receiver looks before", world, put._replace(pc="checked")
            else:
                yield "there is another epoch", world, put._replace(pc="told", repeats=0)

    @staticmethod
    def _put(world: World, put: Writer) -> Iterator[tuple[str, World, Writer]]:
        yield "a receiver puts its point", with_point(world, put), put._replace(pc="landed")

    def _answer(self, world: World, put: Writer) -> Iterator[tuple[str, World, Writer]]:
        if put.is_found and not self.rules.looks_at_what_is_there:
            yield "takes it for done", acknowledged(world, put), Writer()
            return
        has_rivals = self.rules.receiver_has_rivals(put.seq, put.session, rivals_of(world, put))
        for seen, _ in views(self.limits, world.lists, put.noted):
            is_done = not has_rivals and self.rules.may_rely(put.noted, seen)
            if is_done and self._is_in_time(put):
                yield "acknowledges", acknowledged(world, put), Writer()
            else:
                left = put._replace(pc="put", repeats=0, is_found=False)
                yield "learns that it must look", world, left

    def _is_in_time(self, writer: Writer) -> bool:
        return writer.age <= 1 or not self.limits.is_honest
