"""One seed's history: operations drawn, done through the real code, and checked after each."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar
from unittest.mock import patch

from tests.sim import damage
from tests.sim.inline import InlineExecutor
from tests.sim.maintenance import Maintenance
from tests.sim.source import Source
from tests.sim.world import World, need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
LOG_SHOWN = 20
STEPS = 90
SAMPLE = 2
ROTTEN = 0.25  # of the histories have damage that stays


class FailedSeedError(AssertionError):
    """A history broke an invariant; the message has all that is needed to see it again."""


@dataclass
class Outcome:
    """What a history came to."""

    seed: int
    steps: int = 0
    points: int = 0
    expired: int = 0
    events: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


def run(seed: int, *, steps: int = STEPS) -> Outcome:
    """Play the history of ``seed``.

    Raises:
        FailedSeedError: an invariant broke.
    """
    world = World(seed)
    return played(world, lambda: _play(world, steps))


def played(world: World, play: Callable[[], T]) -> T:
    """Return what ``play`` returns; say of what it raises which seed it was, and how it went.

    Raises:
        FailedSeedError: it raised.
    """
    try:
        with _small_and_timed(world):
            return play()
    except Exception as error:
        lines = "\n".join(f"  {line}" for line in world.log[-LOG_SHOWN:])
        raise FailedSeedError(
            f"seed {world.seed} broke after {len(world.log)} operations: "
            f"{type(error).__name__}: {error}\n"
            f"the last {LOG_SHOWN} of them:\n{lines}\n"
            f"again: python -m tests.sim {world.seed}"
        ) from error
    finally:
        world.close()


def _play(world: World, steps: int) -> Outcome:
    source, rng, outcome = Source(world), world.rng, Outcome(world.seed)
    maintenance = Maintenance(world)
    deeds = {
        "commit": (12, source.commit),
        "slow commit": (1, lambda: source.commit(lambda: _meanwhile(world, maintenance))),
        "prune": (1, maintenance.prune),
        "hold": (1, maintenance.hold),
        "round": (4, maintenance.round),
        "restart": (3, source.settle),
        "power cut": (1, lambda: _cut_power(world, source)),
        "damage": (1, lambda: damage.check(world)),
    }
    if rng.random() < ROTTEN:
        deeds["damage"] = (1, lambda: damage.rot(world))
    names, weights = list(deeds), [weight for weight, _ in deeds.values()]
    for _ in range(steps):
        world.now += rng.choice((60, 300, 300, 300, 3600, 20_000, 200_000))
        source.change()
        name = rng.choices(names, weights)[0]
        outcome.counts[name] += 1
        if name in ("restart", "power cut", "damage"):
            world.tell(name)
        deeds[name][1]()
        if world.is_shaken and rng.random() < 0.3:
            world.tell("power cut")
            _cut_power(world, source)
        _check(world, maintenance, SAMPLE)
    source.settle()
    _check(world, maintenance, len(world.points))
    if world.rotten:
        _heal(world, source, maintenance)
    else:
        damage.check(world)
    outcome.steps, outcome.points, outcome.expired = steps, len(world.points), len(world.expired)
    outcome.events = world.events
    return outcome


def _heal(world: World, source: Source, maintenance: Maintenance) -> None:
    """After two cycles and rounds without faults the newest point is whole, whatever is lost."""
    for _ in range(2):
        maintenance.whole_round()
        maintenance.watch()
        world.now += 300
        source.commit(is_faulty=False)
    maintenance.whole_round()
    maintenance.watch()
    found = damage.verified(world)
    said = {point.name: point for point in found.points}
    told = " ".join(found.told())
    for name, known in world.points.items():
        content, is_whole = damage.read(world, name), name in said and said[name].is_whole
        need(content in (None, known.image.bytes()), f"{name} is read wrong: {told}")
        need(content is not None or not is_whole, f"{name} is called whole, not read: {told}")
    newest = world.newest.point.name
    need(newest in said and said[newest].is_whole, f"{newest} is not whole: {told}")


def _meanwhile(world: World, maintenance: Maintenance) -> None:
    """Let hours or days pass, and maintenance do its work."""
    for _ in range(world.rng.randint(1, 3)):
        world.now += world.rng.choice((300, 20_000, 100_000, 300_000))
        maintenance.round()
        maintenance.watch()


def _cut_power(world: World, source: Source) -> None:
    source.boot()
    for line in world.place.cut_power(world.rng):
        world.tell(f"  the power cut {line}")


def _check(world: World, maintenance: Maintenance, count: int) -> None:
    """What is listed is what was committed, and ``count`` points read back byte by byte."""
    maintenance.watch()
    unknown = world.unknown  # one may be in doubt
    need(len(unknown) <= 1, f"listed and never committed: {unknown}")
    for name in world.rng.sample(list(world.points), min(count, len(world.points))):
        if not world.rotten or damage.read(world, name) is not None:
            read(world, name)


def read(world: World, name: str) -> None:
    """Make sure that a point shows what the volume held."""
    wanted = world.points[name]
    image = world.reader().open_image(name)
    need(image.point == wanted.point, f"{name} tells other facts than at its commit")
    need(image.size == wanted.image.size, f"{name} has another size")
    found = bytearray(b"\xff" * image.size)
    image.read_into(0, memoryview(found))
    need(found == wanted.image.bytes(), f"{name} does not hold what the volume held")


def _small_and_timed(world: World) -> ExitStack:
    # Packs so small that a point has several; names and days from the world's seed and clock.
    stack = ExitStack()
    numbers = _tokens(world)
    for name, value in {
        "blocksnapd.store.pack_writer.BATCH_SIZE": 65536,
        "blocksnapd.store.pack_writer.PACK_SIZE_TARGET": 60_000,
        "blocksnapd.store.sink.INLINE_SIZE_MAX": 30_000,
        "secrets.token_hex": lambda size: next(numbers)[: 2 * size],
        "blocksnapd.store.epoch_watch.time": SimpleNamespace(
            clock_gettime=lambda _: world.now, CLOCK_BOOTTIME=time.CLOCK_BOOTTIME
        ),
        "blocksnapd.store.repository.time": SimpleNamespace(
            strftime=time.strftime, gmtime=lambda: time.gmtime(world.now)
        ),
    }.items():
        stack.enter_context(patch(name, value))
    for name, module in list(sys.modules.items()):
        if name.startswith("blocksnapd.") and hasattr(module, "ThreadPoolExecutor"):
            stack.enter_context(patch(f"{name}.ThreadPoolExecutor", InlineExecutor))
    return stack


def _tokens(world: World) -> Iterator[str]:
    count = 0
    while True:
        count += 1
        yield f"{count * 0x9E3779B97F4A7C15F39CC0605CEDC834 % (1 << 128):032x}"
