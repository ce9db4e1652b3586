"""Every step that anyone may take from a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.collecting import Collecting
from tests.model.rules import REAL, Rules
from tests.model.world import Limits, World, jumped, tick
from tests.model.writers import Writers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Steps:
    """All steps from a world."""

    def __init__(self, limits: Limits, rules: Rules = REAL) -> None:
        self.limits = limits
        self.writing = Writers(limits, rules)
        self.collecting = Collecting(limits, rules)

    def successors(self, world: World) -> Iterator[tuple[str, World]]:
        """Yield what each possible step is called and leads to.

        Raises:
            ViolationError: a step does what it must not.
        """
        for index, writer in enumerate(world.writers):
            if index and writer == world.writers[index - 1]:
                continue
            for label, after in self.writing.steps(world, index):
                yield f"writer {writer.session or ''}: {label}", after
        yield from self.writing.receiving.late_steps(world)
        for index in range(len(world.collectors)):
            for label, after in self.collecting.steps(world, index):
                yield f"collection {index}: {label}", after
        yield from self._rest(world)

    def _rest(self, world: World) -> Iterator[tuple[str, World]]:
        newest = max((p.seq for p in world.points), default=0)
        for at, point in enumerate(world.points):
            if point.seq == newest:
                continue
            others = (*world.points[:at], *world.points[at + 1 :])
            changed = point._replace(forgotten=0 if point.forgotten else 1)
            verb = "brings back" if point.forgotten else "forgets"
            both = (*world.points[:at], changed, *world.points[at + 1 :])
            if point.is_trusted:
                yield f"somebody {verb} point {point.seq}", world._replace(points=both)
            if point.forgotten == 2:
                yield f"point {point.seq} expires", world._replace(points=others)
        if self.limits.reads and world.reader is None:
            for point in world.points:
                if point.is_trusted and not point.forgotten:
                    reader = (point.image, world.moved)
                    yield f"opens point {point.seq}", world._replace(reader=reader)
        ticked = tick(world, ages_points=self.limits.shows_late or not self.limits.locks)
        if ticked != world:
            yield "time goes on", ticked
        if world.jumps < self.limits.jumps:
            yield "the store's clock jumps", jumped(world)
