"""Walking through every world there is, and telling the shortest way to one that must not be."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace

from tests.model.collecting import Collecting
from tests.model.rules import REAL, Rules
from tests.model.steps import Steps
from tests.model.world import (
    Collector,
    Limits,
    ViolationError,
    World,
    Writer,
    check,
    start,
    tick,
)


@dataclass
class Found:
    """What a walk found; ``history`` leads to what is ``wrong``."""

    states: int = 0
    steps: int = 0
    seconds: float = 0.0
    wrong: str = ""
    history: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"{self.states:,} states, {self.steps:,} steps, {self.seconds:.1f} s"
        return "\n  ".join([told, self.wrong, *self.history]) if self.wrong else told


def explore(
    limits: Limits, rules: Rules = REAL, *, states_max: int = 10**9, settles_every: int = 50
) -> Found:
    """Walk through all worlds within ``limits``, nearest first; stop at what must not be.

    From every ``settles_every``-th world all writers go away and time passes: garbage must go.
    """
    steps, began = Steps(limits, rules), time.monotonic()
    first = start(limits)
    # Worlds are known by their hashes: what is met is told in a tenth of the memory.
    came: dict[int, tuple[int, str] | None] = {hash(first): None}
    waiting = deque([first])
    found = Found()
    while waiting and len(came) < states_max and not found.wrong:
        world = waiting.popleft()
        try:
            for label, after in steps.successors(world):
                found.steps += 1
                key = hash(after)
                if key not in came:
                    came[key] = (hash(world), sys.intern(label))
                    waiting.append(after)
                    try:
                        check(after)
                    except ViolationError as error:
                        found.wrong, found.history = str(error), _way(came, key)
                        break
            if settles_every and found.steps % settles_every == 0:
                _settle(world, steps)
        except ViolationError as error:
            found.wrong, found.history = str(error), _way(came, hash(world))
    found.states, found.seconds = len(came), time.monotonic() - began
    return found


def _way(came: dict[int, tuple[int, str] | None], key: int) -> list[str]:
    labels = []
    while (before := came[key]) is not None:
        key = before[0]
        labels.append(before[1])
    return labels[::-1]


def _settle(world: World, steps: Steps) -> None:
    # Writers go away, collections come often: nothing dead may stay.
    if world.is_forked or not world.points:
        return
    world = world._replace(
        writers=(Writer(),) * len(world.writers), late=(), reader=None,
        collectors=(Collector(),) * len(world.collectors),
    )  # fmt: skip
    limits = replace(steps.limits, lists=99, repacks=0)
    collecting = Collecting(limits, steps.collecting.rules)
    for _ in range(8):
        world = tick(world)
        for _ in range(40):
            after = next((w for _, w in collecting.steps(world, 0) if w != world), world)
            if after.collectors[0] == Collector():
                break
            world = after
        world = after
    live = {slot for point in world.points for slot in point.image}
    moved = dict(world.moved)
    used = {moved.get(slot // 2, slot // 2) for slot in live}
    for pack in world.packs:
        if pack.number not in used:
            raise ViolationError(f"pack {pack.number} is dead and stays for ever")
