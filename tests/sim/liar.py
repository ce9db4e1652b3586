"""A disk that lies: it says that all is durable, and a power cut shows what was not.

Nobody survives that. But whatever became of a committed point, somebody must say so by name: the
source, which remembers its newest point; the history of the volume; or the verification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.repository import Repository
from tests.sim.history import played
from tests.sim.source import Source
from tests.sim.world import VOLUME, World, need

if TYPE_CHECKING:
    from tests.sim.world import Known

COMMITS = 12


def run(seed: int) -> int:
    """Play ``seed``: some points, then a power cut; return how many points were harmed.

    Raises:
        FailedSeedError: harm was done and nobody said so.
    """
    world = World(seed, lies=True)
    return played(world, lambda: _play(world))


def _play(world: World) -> int:
    source = Source(world)
    for _ in range(COMMITS):
        world.now += 300
        source.change()
        source.commit()
    source.settle()
    for line in world.place.cut_power(world.rng):
        world.tell(f"  the power cut {line}")
    harmed = [p for p in world.points.values() if not _reads(world, p)]
    said = " ".join([_source_says(world), *_history_says(world), *_verify_says(world)])
    for point in harmed:
        need(point.point.name in said, f"{point.point.name} is harmed and nobody says so: {said}")
    return len(harmed)


def _reads(world: World, known: Known) -> bool:
    try:
        image = world.reader().open_image(known.point.name)
        found = bytearray(image.size)
        image.read_into(0, memoryview(found))
    except BlocksnapError:
        return False
    need(found == known.image.bytes(), f"{known.point.name} was read wrong")
    return True


def _source_says(world: World) -> str:
    known = world.newest
    try:
        head = Repository.on(world.place.process(), source=world.keys.source).newest(VOLUME)
    except BlocksnapError as error:
        return error.sentences()
    if known is None or (head and head.name == known.point.name):
        return ""
    return f"{known.point.name} was the newest point and is gone"


def _history_says(world: World) -> list[str]:
    reader = Repository.on(world.place.process(), restore=world.keys)
    return [f"{check.name} {check.problem}" for check in reader.history(VOLUME) if check.problem]


def _verify_says(world: World) -> list[str]:
    reader, said = world.reader(), []
    for name in world.points:
        try:
            problems = reader.verify(name).problems
        except BlocksnapError as error:
            problems = (error.sentences(),)
        said += [f"{name}: {problem}" for problem in problems]
    return said
