"""What a writer of the model may do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.points import acknowledged, check_approved, rivals_of, views, with_point
from tests.model.receiving import UNDER_WAY, Receiving
from tests.model.world import Limits, Pack, ViolationError, World, Writer, with_writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.rules import Rules


class Writers:
    """The steps of writers."""

    def __init__(self, limits: Limits, rules: Rules) -> None:
        self.limits, self.rules = limits, rules
        self.receiving = receiving = Receiving(limits, rules)
        self._steps = {
            "": self._choose, "chosen": self._begin, "begun": self._put_pack,
            "filled": receiving.send if limits.receivers else self._look_before,
            "sent": receiving.steps, "checked": receiving.steps, "landed": receiving.steps,
            "told": self._look_before, "approved": self._put_point, "put": self._look_after,
        }  # fmt: skip

    def steps(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        """Yield what writer ``index`` may do next."""
        writer = world.writers[index]
        for label, after, changed in self._steps[writer.pc](world, writer):
            yield label, with_writer(after, index, changed)
        if self.limits.receivers and writer.pc in UNDER_WAY:
            for label, after, changed in self.receiving.left(world, writer):
                yield label, with_writer(after, index, changed)
        elif writer.pc and self.limits.dies:
            yield "dies", with_writer(world, index, Writer())

    def _choose(self, world: World, _: Writer) -> Iterator[tuple[str, World, Writer]]:
        # newest(): the base, and whether it may be gone on from.
        if world.is_forked or world.sessions == self.limits.sessions:
            return
        if not world.points:
            yield "looks: nothing", world, Writer("chosen", seq=1)
            return
        base = max(world.points, key=lambda p: p.seq)
        seen = max((one.epoch for one in world.lists), default=0)
        tainted = self.rules.is_tainted(
            base.seq, base.session, base.epoch, seen,
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
        for seen, _ in views(self.limits, world.lists):
            noted = max(seen, writer.base_epoch)
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
            check_approved(self.limits, world, writer)
            yield "looks before", world, writer._replace(pc="approved")

    def _put_point(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        after, put = with_point(world, writer), writer._replace(pc="put")
        yield "puts its point" if after != world else "puts a point behind others", after, put

    def _look_after(self, world: World, writer: Writer) -> Iterator[tuple[str, World, Writer]]:
        for why in self._looks(world, writer, self.rules.look_after):
            if why:
                yield f"does not trust its point ({why})", world, Writer()
            else:
                yield "acknowledges", acknowledged(world, writer), Writer()

    def _looks(self, world: World, writer: Writer, look) -> Iterator[str]:
        if self.rules.has_rivals(writer.seq, writer.session, rivals_of(world, writer)):
            yield "rival"
            return
        named = tuple(sorted({slot // 2 for slot in writer.image} - {writer.base}))
        clock = writer.age if self.limits.is_honest else 0
        for seen, lists in views(self.limits, world.lists, writer.noted):
            keys = tuple(one.key for one in lists if one.epoch > writer.noted)
            why = look(writer.noted, seen, keys, named, clock)
            if why and writer.age <= 1 and self.limits.sees_all and not world.jumps:
                raise ViolationError(f"a session within its limit is refused: {why}")
            yield why
