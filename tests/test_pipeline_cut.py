"""Cycles whose target breaks off: what is sent again, and what may not be mixed up."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.journal import Journal
from blocksnapd.cycle.rotation import Asked
from blocksnapd.errors import StoreError
from blocksnapd.store.names import packs_prefix
from blocksnapd.store.repository import Repository
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import make_repository
from tests.test_pipeline import Killed, Reporter, World

if TYPE_CHECKING:
    from pathlib import Path

VOLUME = "memory-volume"
SIZE = 300 * 4096


class Flaky(MemoryObjects):
    """Is away after so many puts until ``back``; counts bytes of packs, and who asked for what."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.sent, self.late = 1 << 30, 0, {}
        self.arrives_late = self.dislikes_points = False

    def put(self, name, parts):
        parts = list(parts)
        if self.dislikes_points and name.endswith(".pt"):
            self.left = 0
        if self.left <= 0:
            if self.arrives_late and name.endswith(".pt"):
                self.late[name] = b"".join(parts)
            raise StoreError("connection reset")
        self.left -= 1
        size = super().put(name, parts)
        self.sent += size if name.endswith(".pk") else 0
        return size

    def list_names(self, prefix):
        self._check()
        return super().list_names(prefix)

    def get(self, name, *, size_max):
        self._check()
        return super().get(name, size_max=size_max)

    def _check(self) -> None:
        if self.left <= 0 and not self.arrives_late:
            raise StoreError("connection refused")

    def back(self) -> None:
        self.left, self.dislikes_points = 1 << 30, False


class CutWorld(World):
    """A world whose repository is a real one, on objects that come and go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, size=SIZE)
        self.objects = Flaky()
        self.keys = make_repository(self.objects)
        self.open()

    def open(self) -> None:
        self.store = Repository.on(self.objects, source=self.keys.source)

    def check(self) -> None:
        """Every point in the repository is the volume at its instant."""
        reader = Repository.on(self.objects, restore=self.keys)
        points = reader.points(VOLUME)
        assert points
        for point in points:
            image, opened = bytearray(SIZE), reader.open_image(point)
            opened.read_into(0, memoryview(image))
            assert image == self.host.instants[point.facts.point_id]
            assert reader.verify(point).is_whole

    def fill(self, seed: int, start: int = 0, count: int = 300) -> None:
        self.host.write(start * 4096, random.Random(seed).randbytes(count * 4096))

    def pending(self) -> tuple[str, str]:
        record = Journal.open(self.path, volume_id=VOLUME, volume_name="m").record
        return (record.pending.point_id if record.pending else ""), record.cut


@pytest.fixture
def world(tmp_path, monkeypatch) -> CutWorld:
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 60_000)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 40_000)
    return CutWorld(tmp_path)


def cut(world: CutWorld, puts: int) -> None:
    world.objects.left = puts
    with pytest.raises(StoreError, match="connection"):
        world.cycle()


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("puts", [1, 5, 12, 17, 18])
def test_a_cut_costs_what_was_on_its_way(world: CutWorld, puts: int, is_first: bool) -> None:
    """The pending snapshot goes, a new one is taken, and still nothing is sent twice."""
    if not is_first:
        world.fill(1)
        world.cycle()
    world.fill(2)
    before = world.objects.sent
    cut(world, puts)
    assert len(world.host.snapshots) <= (1 if is_first else 2)
    world.fill(3, 100, 20)  # life goes on
    world.objects.back()
    world.open()
    point = world.cycle()
    assert point is not None
    world.cycle()
    world.check()
    assert world.objects.sent - before < (300 + 20) * 4096 * 1.1
    assert len(world.host.snapshots) == 1


def test_cut_at_every_object_until_it_is_through(world: CutWorld) -> None:
    """Fifty tries with two objects each; the volume changes all the time."""
    world.fill(1)
    for attempt in range(50):
        world.objects.left = 2
        try:
            world.cycle()
            break
        except StoreError:
            world.fill(attempt, attempt, 1)
            world.objects.back()
            world.open()
    else:
        pytest.fail("it never got through")
    world.objects.back()
    world.fill(99, 7, 3)
    world.cycle()
    world.check()
    assert world.objects.sent < 300 * 4096 * 1.5


def test_the_id_of_a_cut_point_is_taken_again_only_before_its_commit(world: CutWorld) -> None:
    world.fill(1)
    cut(world, 3)
    _, first = world.pending()
    assert first
    world.objects.back()
    world.objects.dislikes_points = True
    cut(world, 1 << 30)  # the packs are there, the point is not, and nobody can tell
    assert world.pending() == (first, "")
    world.objects.back()
    point = world.cycle(Asked(due=False))
    assert point is not None
    assert (point.facts.point_id, world.pending()) == (first, ("", ""))
    world.check()


def test_a_point_that_arrives_late_is_not_taken_for_a_later_instant(world: CutWorld) -> None:
    """Its put failed, the target said that it was not there, and then it was."""
    world.fill(1)
    world.cycle()
    world.fill(2, 0, 100)
    world.objects.arrives_late = True
    cut(world, 6)
    world.objects.back()
    assert world.pending() == ("", "")
    ((name, data),) = world.objects.late.items()
    world.fill(3, 50, 100)
    world.objects.put(name, [data])
    world.cycle()
    world.fill(4, 20, 5)
    world.cycle()
    world.check()


@pytest.mark.parametrize("step", ["shipped", "sealed"])
def test_killed_with_all_packs_there_they_are_found_again(world: CutWorld, step: str) -> None:
    world.fill(1)
    with pytest.raises(Killed):
        world.cycle(reporter=Reporter(kill_at=step))
    sent = world.objects.sent
    world.open()
    world.objects._locked.clear()  # its process is dead
    world.fill(2, 3, 4)
    world.cycle(Asked(due=False))
    assert world.objects.sent - sent <= 65536 * 1.1 * 3
    world.check()
    assert len(world.objects.list_names(packs_prefix(VOLUME))) >= 18
