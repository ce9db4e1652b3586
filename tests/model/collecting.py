"""What a collection of the model may do next, and repacking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.rules import OLD
from tests.model.world import (
    REPACKED,
    Collector,
    Limits,
    List,
    Pack,
    Point,
    World,
    with_collector,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.rules import Rules


class Collecting:
    """The steps of collections."""

    def __init__(self, limits: Limits, rules: Rules) -> None:
        self.limits, self.rules = limits, rules

    def steps(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        """Yield what collection ``index`` may do next."""
        one = world.collectors[index]
        steps = {
            "": self._start, "packs": self._mark, "points": self._list_packs,
            "plan": self._act, "repack": self._publish_moved,
        }  # fmt: skip
        for label, after, changed in steps[one.pc](world, one):
            yield label, with_collector(after, index, changed)
        if one.pc and self.limits.dies:
            yield "dies", with_collector(world, index, Collector())

    def _start(self, world: World, one: Collector) -> Iterator[tuple[str, World, Collector]]:
        if world.is_forked or not world.points:
            return
        if self.rules.lists_packs_first:
            yield from self._list_packs(world, one)
        else:
            yield "lists points", world, Collector("points", points=world.points)
        if world.repacks < self.limits.repacks:
            yield from self._repack(world)

    def _list_packs(self, world: World, one: Collector) -> Iterator[tuple[str, World, Collector]]:
        locked = None if self.rules.asks_where_locks_hold else True
        if self.limits.locks:
            locked = all(w.pc in ("", "chosen") for w in world.writers)
        ripe = next(
            (x.epoch for x in world.lists if not x.is_done and self.rules.has_waited(x.age)), 0
        )
        seen = tuple(p.number for p in world.packs)
        if not ripe and (len(world.lists) >= self.limits.lists or self._waits(world)):
            return
        listed = Collector("packs", seen, locked, ripe, one.points)
        if one.points is not None:
            yield from ((f"lists packs, {x}", y, z) for x, y, z in self._mark(world, listed))
        else:
            yield "lists packs", world, listed

    @staticmethod
    def _waits(world: World) -> bool:
        return any(not x.is_done for x in world.lists)

    def _mark(self, world: World, one: Collector) -> Iterator[tuple[str, World, Collector]]:
        points = world.points if one.points is None else one.points
        for view in self._point_views(points):
            yield from self._plan(world, one, view)

    def _point_views(self, points: tuple[Point, ...]) -> Iterator[tuple[Point, ...]]:
        yield points
        late = tuple(p for p in points if p.age)
        if self.limits.shows_late and late and len(late) < len(points):
            yield late

    def _plan(
        self, world: World, one: Collector, points: tuple[Point, ...]
    ) -> Iterator[tuple[str, World, Collector]]:
        live = self._live(points)
        moved = dict(world.moved)
        if not self.rules.publishes_first:
            moved |= {n - REPACKED: n for n in one.packs if n > REPACKED}
        used = {moved.get(slot // 2, slot // 2) for slot in live}
        kept = {number for number in one.packs if number in used}
        # A pack that moved is replaced; what it holds lives elsewhere.
        dead = tuple(n for n in one.packs if n not in kept and n not in moved)
        replaced = tuple(n for n in one.packs if n in moved)
        newest = max(points, key=lambda p: p.seq)
        sweeping = next((x for x in world.lists if x.epoch == one.ripe and not x.is_done), None)
        doomed: tuple[int, ...] = ()
        if sweeping is not None:
            if not self.rules.has_progress(
                sweeping.epoch, sweeping.age, newest.epoch, newest.age, one.is_locked
            ):
                yield "waits for writers", world, Collector()
                return
            names = (*sweeping.packs, *sweeping.replaced)
            doomed = tuple(self.rules.sweep(names, frozenset((*dead, *replaced)))[0])
        ages = {p.number: p.age for p in world.packs}
        gone = set(doomed)

        def may(number: int) -> bool:
            known = number in ages and number not in gone
            return known and self.rules.may_condemn(ages[number], one.is_locked)

        yield (
            "marks", world,
            Collector(
                "plan", ripe=one.ripe if sweeping else 0, doomed=doomed,
                dead=tuple(filter(may, dead)), newest_seq=newest.seq,
                replaced=tuple(n for n in replaced if n in ages and n not in gone),
            ),
        )  # fmt: skip

    def _live(self, points: tuple[Point, ...]) -> set[int]:
        counted = [p for p in points if self.rules.marks_forgotten or not p.forgotten]
        return {slot for point in counted for slot in point.image}

    def _act(self, world: World, one: Collector) -> Iterator[tuple[str, World, Collector]]:
        if one.doomed:
            packs = tuple(p for p in world.packs if p.number != one.doomed[0])
            left = one._replace(doomed=one.doomed[1:])
            yield f"deletes pack {one.doomed[0]}", world._replace(packs=packs), left
        elif one.ripe:
            lists = tuple(
                x._replace(is_done=True, age=OLD) if x.epoch == one.ripe else x for x in world.lists
            )
            newest = max(world.points, key=lambda p: p.seq)
            done = tuple(x.epoch for x in lists if x.is_done)
            out = self.rules.outlived(tuple(x.epoch for x in lists), done, newest.epoch)
            lists = tuple(x for x in lists if x.epoch not in out)
            yield "tells it is done", world._replace(lists=lists), one._replace(ripe=0)
        elif (one.dead or one.replaced) and world.epoch < self.limits.lists:
            epoch = world.epoch + 1
            made = List(epoch, one.newest_seq, one.dead, one.replaced, 0)
            if any(x.epoch >= epoch for x in world.lists) or self._waits(world):
                yield "finds another list", world, Collector()
                return
            after = world._replace(lists=(*world.lists, made), epoch=epoch)
            yield f"publishes {(*made.packs, *made.replaced)}", after, Collector()
        else:
            yield "ends", world, Collector()

    def _repack(self, world: World) -> Iterator[tuple[str, World, Collector]]:
        live, moved = self._live(world.points), dict(world.moved)
        known = {pack.number for pack in world.packs}
        for pack in world.packs:
            slots = tuple(s for s in pack.slots if s in live)
            made = Pack(REPACKED + pack.number, 0, slots)
            is_worth_it = slots and slots != pack.slots
            if not is_worth_it or pack.number in moved or made.number in known:
                continue
            after = world._replace(packs=(*world.packs, made), repacks=world.repacks + 1)
            yield f"repacks {pack.number}", after, Collector("repack", dead=(pack.number,))

    @staticmethod
    def _publish_moved(world: World, one: Collector) -> Iterator[tuple[str, World, Collector]]:
        pair = (one.dead[0], REPACKED + one.dead[0])
        after = world._replace(moved=(*world.moved, pair))
        yield "publishes where slots are", after, Collector()
