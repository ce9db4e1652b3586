"""Shipping into a real repository: what content moved is referred to, every point is whole."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.repository import Repository
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import make_repository
from tests.test_pipeline import STEPS, Killed, Reporter, World

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.model import RestorePoint

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

VOLUME = "memory-volume"
BLOCK = 4096


class RealWorld(World):
    """A host whose points go into a real repository, which lies in memory."""

    def __init__(self, path: Path, size: int = 64 * BLOCK) -> None:
        super().__init__(path, size)
        self.objects = MemoryObjects()
        self.keys = make_repository(self.objects)
        self.store = Repository.on(self.objects, source=self.keys.source)  # type: ignore[assignment]
        self.reader = Repository.on(self.objects, restore=self.keys)

    def points(self) -> list[RestorePoint]:
        return self.reader.points(VOLUME)

    def check(self) -> None:
        """Every point is its instant, and verification finds it whole."""
        for point in self.points():
            image = self.reader.open_image(point)
            content = bytearray(image.size)
            image.read_into(0, memoryview(content))
            assert content == self.host.instants[point.facts.point_id]
            report = self.reader.verify(point)
            assert report.is_whole, report.problems

    def move(self, to: int, start: int, blocks: int) -> None:
        self.host.write(to * BLOCK, bytes(self.host.content[start * BLOCK :][: blocks * BLOCK]))

    def noise(self, start: int, blocks: int) -> None:
        self.host.write(start * BLOCK, os.urandom(blocks * BLOCK))


@pytest.fixture
def world(tmp_path: Path) -> RealWorld:
    return RealWorld(tmp_path)


def shipped(world: RealWorld) -> int:
    point = world.cycle()
    assert point is not None
    return point.shipped_bytes // BLOCK


def test_what_moves_is_referred_to_and_what_is_new_is_shipped(world: RealWorld) -> None:
    world.noise(0, 16)
    world.move(16, 0, 4)
    assert shipped(world) == 16
    world.move(40, 0, 16)
    world.noise(0, 2)
    assert shipped(world) == 2
    world.move(20, 41, 3)
    world.move(60, 0, 2)
    assert shipped(world) == 0
    world.check()


def test_state_that_is_lost_costs_room_and_nothing_else(world: RealWorld) -> None:
    world.noise(0, 8)
    shipped(world)
    for name in ("hints", "places-", "packs-", ""):
        world.move(32, 0, 8)
        world.noise(0, 8)
        for found in os.listdir(world.path + "/f"):
            if found.startswith(name):
                os.unlink(f"{world.path}/f/{found}")
        assert shipped(world) in (8, 16, 24)  # the new; what was not found; or everything
        world.move(48, 32, 8)
        shipped(world)
    assert [p.facts.kind for p in world.points()].count("full") == 2
    world.check()


def test_state_put_back_from_an_older_time_is_not_believed(world: RealWorld) -> None:
    """A host restored from its own backup: its state is of an earlier point than the newest."""
    world.noise(0, 8)
    shipped(world)
    shutil.copytree(world.path + "/f", world.path + "/kept")
    world.noise(0, 8)
    shipped(world)
    shutil.rmtree(world.path + "/f")
    os.rename(world.path + "/kept", world.path + "/f")
    world.move(16, 0, 8)
    assert shipped(world) == 8
    assert world.points()[-1].facts.kind == "full"
    world.check()


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_each_step_no_reference_is_wrong(world: RealWorld, step: str) -> None:
    dice = random.Random(step)
    world.scribble(dice, 20)
    world.cycle()
    for _ in range(2):
        world.scribble(dice, 20)
        with contextlib.suppress(Killed):
            world.cycle(reporter=Reporter(kill_at=step))
        world.scribble(dice, 20)
        world.cycle()
    world.check()
    assert len(world.points()) >= 3


@pytest.mark.parametrize("seed", range(6))
def test_a_random_life(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    world = RealWorld(tmp_path, dice.choice([50 * BLOCK, 40 * BLOCK + 1536]))
    for _ in range(14):
        world.scribble(dice, 12)
        if dice.random() < 0.1:
            world.host.resize(dice.randrange(30, 60) * BLOCK + dice.choice([0, 512]))
        if dice.random() < 0.1:
            with contextlib.suppress(OSError):
                name = dice.choice([*os.listdir(world.path + "/f"), "none"])
                os.truncate(f"{world.path}/f/{name}", dice.randrange(4000))
        kill_at = dice.choice(STEPS) if dice.random() < 0.3 else ""
        with contextlib.suppress(Killed, BlocksnapError):
            world.cycle(reporter=Reporter(kill_at))
    world.cycle()
    world.check()
