"""The maintenance of a simulated repository: the real code, in processes that may die anywhere.

What it decides is taken from the manifest and checked against what may be: every point that was
committed stays listed until its window to bring it back has ended; what is listed can be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from blocksnapd.keep_rules import DAY_S, DAY_US, parse_rule
from blocksnapd.maintain.maintainer import Orders, Round
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.listing import entry_name
from tests.fakes.faulty_objects import EVERY
from tests.sim.world import VOLUME, World, need

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.faulty_objects import FaultyObjects

BUDGETS = (1, 3000, 1 << 30)


class Maintenance:
    """Prunes, holds, brings back, does whole rounds; ``watch`` checks what that came to."""

    def __init__(self, world: World) -> None:
        self._world = world
        rules = world.rng.choice(
            (("all for 1h", "1/d for 7d"), ("1/h for 2d",), ("all for 3d", "1/w for ever"))
        )
        self.policy = Policy(
            tuple(map(parse_rule, rules)), max_delete_pct=100.0, min_points=2,
            undelete_us=world.rng.choice((2, 14)) * DAY_US,
        )  # fmt: skip

    def prune(self) -> None:
        """Forget what the policy does not keep, as the daemon does."""
        self._attempt("prune", 30, 3, lambda pruner: pruner.prune(VOLUME, self.policy))

    def hold(self) -> None:
        """Hold, release, or bring back a point."""
        world, rng = self._world, self._world.rng
        hidden = [n for n, until in world.forgotten.items() if until > round(world.now * 1e6)]
        open_ = [n for n in world.points if n not in world.forgotten and n not in world.rotten]
        if hidden and rng.random() < 0.5:
            name = rng.choice(hidden)
            deed = "undelete"
        elif open_:
            name = rng.choice(open_)
            deed = rng.choice(("hold", "release"))
        else:
            return
        point_id = world.points[name].point.facts.point_id
        self._attempt(f"{deed} {point_id}", 20, 2,
                      lambda pruner: getattr(pruner, deed)(VOLUME, point_id))  # fmt: skip

    def whole_round(self) -> None:
        """Let a day pass, and do a round without faults that checks everything."""
        self._world.now += DAY_S  # a round reads as much of a day's share as time has passed
        orders = Orders(policy=self.policy, structure_s=0.0, data_per_day=1.0, collect_s=0.0)
        self._round(self._world.place.process(), self._world.keys, orders)

    def round(self) -> None:
        """Do a whole round, as the daemon's maintenance does."""
        world, rng = self._world, self._world.rng
        orders = Orders(
            policy=self.policy if rng.random() < 0.8 else None,
            structure_s=rng.choice((3600.0, 86_400.0, 1e9)), data_per_day=rng.choice((0.05, 1.0)),
            merge_size=rng.choice(BUDGETS), collect_s=rng.choice((3600.0, 86_400.0)),
            repack_share=rng.choice((0.1, 1.0)),
        )  # fmt: skip
        key = (
            world.keys
            if rng.random() < 0.5
            else MaintenanceKey(world.keys.source, world.keys.metadata_private)
        )
        store = world.process(rng.choice((40, 150, 500)), rng.choice((3, 10, 30)), EVERY)
        self._round(store, key, orders)

    def _round(self, store: FaultyObjects, key: MaintenanceKey, orders: Orders) -> None:
        world = self._world

        def tell(kind: str, message: str, *, severity: str = "info", **data: object) -> None:
            world.tell(f"    {kind} {message or data}")
            world.events[kind] += 1
            if severity != "info" and not store.happened:
                told_before = "found earlier" in message or bool(world.rotten)
                need(
                    kind == "prune-stopped" or told_before,
                    f"a round without a fault says {kind}: {message}",
                )

        done = Round(store, key, VOLUME, orders, tell, lambda: world.now)
        self._world.attempt("round", store, done.run)
        store.die()

    def watch(self) -> None:
        """Look at the ledger without faults; learn what is listed and forgotten, and if it may."""
        world, now_us = self._world, round(self._world.now * 1e6)
        try:
            ledger = self._pruner(world.place.process()).look(VOLUME)
        except BlocksnapError:
            if world.rotten:
                return  # nobody decides anything before somebody looked at it
            raise
        listed = {entry_name(VOLUME, entry): entry.seq for entry in ledger.points}
        for name in set(world.expired) & set(listed):
            world.tell(f"  {name} is listed again, after a generation was lost")
            world.points[name] = world.expired.pop(name)
        world.points = dict(sorted(world.points.items()))
        for name in set(world.points) - set(listed) - world.rotten:
            until = world.forgotten.get(name)
            need(until is not None and until <= now_us, f"{name} is not listed any more")
            world.tell(f"  {name} has expired")
            world.expired[name] = world.points.pop(name)
        missing = set(ledger.missing) - world.rotten
        need(not missing, f"listed and not there: {missing}")
        until = {f.seq: f.until_us for f in ledger.manifest.forgotten}
        world.forgotten = {n: until[seq] for n, seq in listed.items() if seq in until}
        world.unknown = sorted(set(listed) - set(world.points))
        newest = world.newest
        need(not newest or newest.point.name not in world.forgotten, "the newest is forgotten")
        for hold in ledger.manifest.holds:
            need(hold.seq not in until, f"point {hold.seq} is held and forgotten")

    def _pruner(self, store: FaultyObjects) -> Pruner:
        return Pruner(store, self._world.keys, lambda: self._world.now)

    def _attempt(
        self, what: str, calls: int, changes: int, deed: Callable[[Pruner], object]
    ) -> bool:
        store = self._world.process(calls, changes, EVERY)
        done = self._world.attempt(what, store, lambda: deed(self._pruner(store)))
        store.die()
        return done
