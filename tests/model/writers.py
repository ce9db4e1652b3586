"""What a writer of the model may do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.world import (
    Limits,
    List,
    Pack,
    Point,
    ViolationError,
    World,
    Writer,
    with_writer,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.rules import Rules


class Writers:
    """The steps of writers."""

    def __init__(self, limits: Limits, rules: Rules) -> None:
        self.limits, self.rules = limits, rules

    def steps(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        """Yield what writer ``index`` may do next."""
        writer = world.writers[index]
        step = {
            "": self._choose, "chosen": self._begin, "begun": self._put_pack,
            "filled": self._look_before, "approved": self._put_point, "put": self._look_after,
        }[writer.pc]  # fmt: skip
        for label, after, changed in step(world, writer):
            yield label, with_writer(after, index, changed)
        if writer.pc and self.limits.dies:
            yield "dies", with_writer(world, index, Writer())

    def _choose(self, world: World, _: Writer) -> Iterator[tuple[str, World, Writer]]:
        # newest(): the base, and whether it may be gone on from.
        if world.is_forked or world.sessions == self.limits.sessions:
            return
        if not world.points:
            yield "looks: nothing", world, Writer("chosen", seq=1)
            return
        base = max(world.points, key=lambda p: p.seq)
        tainted = self.rules.is_tainted(
            base.seq, base.session, base.epoch, self._seen(world.lists),
            tuple(one.key for one in world.lists if one.epoch > base.epoch),
        )  # fmt: skip
        chosen = Writer(
            "chosen", seq=base.seq + 1, base=base.session, base_epoch=base.epoch,
            image=() if tainted else base.image,
        )  # fmt: skip
        if not tainted:
            trusted = tuple(p._replace(is_trusted=True) if p == base else p for p in world.points)
            yield f"looks: {base.seq}", world._replace(points=trusted), chosen
            return
        if base.is_good and self.limits.sees_all and not world.jumps:
            raise ViolationError(f"ships all afresh although point {base.seq} is sound")
        yield f"looks: {base.seq} is tainted", world, chosen

    def _begin(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        newest = max(world.points, key=lambda p: p.seq, default=None)
        if world.is_forked or (newest.session if newest else 0) != writer.base:
            yield "is too late to begin", world, Writer()
            return
        busy = self.limits.locks and any(w.pc not in ("", "chosen") for w in world.writers)
        if busy or world.sessions == self.limits.sessions:
            return
        session = world.sessions + 1
        for lists in self._views(world.lists):
            noted = max(self._seen(lists), writer.base_epoch)
            begun = writer._replace(pc="begun", session=session, noted=noted)
            after = world._replace(sessions=session)
            new = 2 * session
            if not writer.image:
                yield "begins a full one", after, begun._replace(image=(new, new + 1))
                continue
            kept = writer.image[1]
            yield "begins, writes one", after, begun._replace(image=(new, kept))
            yield "begins, refers to one", after, begun._replace(image=(kept, new))

    def _put_pack(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        slots = tuple(s for s in sorted(writer.image) if s // 2 == writer.session)
        packs = (*world.packs, Pack(writer.session, 0, slots))
        yield "puts its pack", world._replace(packs=packs), writer._replace(pc="filled")

    def _look_before(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        for why in self._looks(world, writer, self.rules.look_before):
            if why:
                yield f"gives up ({why})", world, Writer()
                continue
            if writer.session not in {p.number for p in world.packs} and not self.limits.is_blind:
                raise ViolationError("a look approves of a session whose pack is gone")
            yield "looks before", world, writer._replace(pc="approved")

    def _put_point(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        newest = max((p.seq for p in world.points), default=0)
        put = writer._replace(pc="put")
        if newest > writer.seq:  # listed by nobody: the manifest knows newer ones
            yield "puts a point behind others", world, put
            return
        point = Point(
            writer.seq, writer.session, writer.noted, (writer.image[0], writer.image[1]), 0,
            is_good=writer.age <= 1,
        )  # fmt: skip
        forked = newest == writer.seq
        after = world._replace(points=(*world.points, point), is_forked=world.is_forked or forked)
        yield "puts its point", after, put

    def _look_after(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        mine = next((p for p in world.points if p.session == writer.session), None)
        for why in self._looks(world, writer, self.rules.look_after):
            if why:
                yield f"does not trust its point ({why})", world, Writer()
            elif mine is None:
                raise ViolationError("acknowledged: a point that stands behind others")
            elif any(p.seq == mine.seq and p.is_trusted and p != mine for p in world.points):
                raise ViolationError("acknowledged: two points in one place")
            else:
                points = tuple(
                    p._replace(is_trusted=True) if p == mine else p for p in world.points
                )
                yield "acknowledges", world._replace(points=points), Writer()

    def _looks(self, world: World, writer: Writer, look) -> Iterator[str]:
        others = tuple((p.seq, p.session) for p in world.points if p.session != writer.session)
        if self.rules.has_rivals(writer.seq, writer.session, others):
            yield "rival"
            return
        named = tuple(sorted({slot // 2 for slot in writer.image} - {writer.base}))
        clock = writer.age if self.limits.is_honest else 0
        for lists in self._views(world.lists, blind=writer.noted):
            keys = tuple(one.key for one in lists if one.epoch > writer.noted)
            seen = max(self._seen(lists), writer.noted if self.limits.is_blind else 0)
            why = look(writer.noted, seen, keys, named, clock)
            if why and writer.age <= 1 and self.limits.sees_all and not world.jumps:
                raise ViolationError(f"a session within its limit is refused: {why}")
            yield why

    def _views(self, lists: tuple[List, ...], blind: int = -1) -> Iterator[tuple[List, ...]]:
        if self.limits.is_blind and blind >= 0:
            yield tuple(one for one in lists if one.epoch <= blind)
            return
        yield lists
        if self.limits.shows_late and any(one.age == 0 for one in lists):
            yield tuple(one for one in lists if one.age)

    @staticmethod
    def _seen(lists: tuple[List, ...]) -> int:
        return max((one.epoch for one in lists), default=0)
