"""The pipeline against a model: whatever happens in between, every point is its instant."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from blocksnapd.blocks import state_sum
from blocksnapd.cycle.journal import Journal
from blocksnapd.cycle.rotation import Asked
from blocksnapd.errors import BlocksnapError, CowReserveError, StoreFullError, TrackingLostError
from blocksnapd.pipeline import Cycle
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.ship.fingerprints import FingerprintStore
from blocksnapd.shipping import Volume
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_volume import MemorySource, MemoryVolume

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.model import RestorePoint
    from blocksnapd.ship.shipper import Progress

import contextlib

import numpy as np

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STEPS = ["begun", "taken", "noted", "listed", "shipped", "sealed", "committed", "ended", "removed"]
DUE = Asked(due=True)


class Killed(BaseException):
    """Ends the daemon where a SIGKILL would."""


class Reporter:
    """Notes what happens; kills at a step when told."""

    def __init__(self, kill_at: str = "") -> None:
        self.kill_at = kill_at
        self.steps: list[str] = []
        self.events: list[str] = []

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.kill_at:
            raise Killed

    def phase(self, name: str, seconds: float) -> None: ...

    def progress(self, progress: Progress) -> None:
        assert 0 <= progress.done <= progress.total

    def event(self, kind: str, message: str, **_: object) -> None:
        assert message
        self.events.append(kind)


class World:
    """A host, a repository and a state directory that outlive the daemon."""

    def __init__(self, path: Path, size: int = 64 * 4096, chunk_size: int = 4096) -> None:
        self.path = str(path)
        self.host = MemoryVolume(size, chunk_size)
        self.store = MemoryStore()

    def cycle(
        self, asked: Asked = DUE, *, reporter: Reporter | None = None, tags: tuple[str, ...] = ()
    ) -> RestorePoint | None:
        """Start a daemon, run one cycle, end the daemon; return the point committed last."""
        journal = Journal.open(self.path, volume_id="memory-volume", volume_name="m")
        volume = Volume(
            "m", "memory-volume", 4096, MemorySource(self.host), self.store,
            FingerprintStore(self.path + "/f"), journal, SystemClock(), self.path + "/session",
        )  # fmt: skip
        self.reporter = reporter or Reporter()
        cycle = self.running = Cycle(volume, self.reporter)
        asyncio.run(cycle.run(asked, tags))
        return cycle.committed[-1] if cycle.committed else None

    def check(self) -> None:
        """Every committed point is its instant, byte for byte, and its state sum is true."""
        for kept in self.store.kept:
            facts = kept.point.facts
            assert kept.image == self.host.instants[facts.point_id]
            blocks = np.array(sorted(kept.identities), dtype=np.uint64)
            rows = b"".join(kept.identities[b] for b in blocks.tolist())
            hashes = np.frombuffer(rows, dtype=np.uint8).reshape(-1, 16)
            assert facts.state_sum == state_sum(blocks, hashes)

    def scribble(self, dice: random.Random, writes: int = 8) -> None:
        size = len(self.host.content)
        for _ in range(writes):
            start = dice.randrange(size)
            length = min(dice.choice([1, 512, 4096, 9000]), size - start)
            data = bytes(length) if dice.random() < 0.3 else dice.randbytes(length)
            self.host.write(start, data)
        for _ in range(writes // 4):  # files are moved, too
            start, to = (dice.randrange(-(-size // 4096)) * 4096 for _ in range(2))
            length = min(4096 * dice.randrange(1, 4), size - to)
            self.host.write(to, bytes(self.host.content[start : start + length]))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def methods(world: World) -> list[str]:
    return [k.point.facts.method for k in world.store.kept]


def test_full_then_tracked(world: World) -> None:
    dice = random.Random(1)
    for _ in range(4):
        world.scribble(dice)
        world.cycle()
        world.scribble(dice)
    world.check()
    assert methods(world) == ["first", "tracked", "tracked", "tracked"]
    assert len(world.host.snapshots) == 1


def test_what_did_not_change_is_not_shipped(world: World) -> None:
    world.host.write(0, b"\1" * 40960)
    world.cycle()
    world.host.write(4096, b"\1" * 8192)  # the same bytes again: the kernel copies all the same
    world.host.write(0, b"\2")
    point = world.cycle()
    assert point is not None
    assert point.shipped_bytes == point.facts.changed_bytes == 4096
    assert point.facts.proof.checked_blocks == 3
    assert point.facts.proof.mismatched_blocks == 0


def test_moved_content_is_not_shipped_again(world: World) -> None:
    world.host.write(0, random.Random(1).randbytes(8 * 4096))
    world.cycle()
    world.host.write(20 * 4096, bytes(world.host.content[: 8 * 4096]))
    world.host.write(0, bytes(4 * 4096))
    point = world.cycle()
    assert point is not None
    assert (point.shipped_bytes, point.deduplicated_bytes) == (0, 8 * 4096)
    assert point.facts.changed_bytes == 12 * 4096
    world.host.write(40 * 4096, bytes(world.host.content[20 * 4096 : 28 * 4096]) + b"\1" * 4096)
    point = world.cycle()
    assert point is not None
    assert point.shipped_bytes == 4096
    world.check()


@pytest.mark.parametrize("chunk_size", [4096, 16384, 65536])
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_each_step(tmp_path: Path, step: str, chunk_size: int) -> None:
    """Kill the second cycle after ``step``; the next start is right, without a full copy."""
    world = World(tmp_path, size=70 * 4096 + 512, chunk_size=chunk_size)
    dice = random.Random(step)
    world.scribble(dice)
    world.cycle()
    world.scribble(dice)
    with pytest.raises(Killed):
        world.cycle(reporter=Reporter(kill_at=step))
    world.scribble(dice)
    world.cycle(Asked(due=False))  # what start-up does
    assert len(world.host.snapshots) == 1
    world.scribble(dice)
    world.cycle()
    world.check()
    assert set(methods(world)[1:]) == {"tracked"}
    assert len(world.host.snapshots) == 1


@pytest.mark.parametrize("step", [s for s in STEPS if s != "removed"])  # a first has none to remove
def test_killed_in_the_first_full_copy(world: World, step: str) -> None:
    world.scribble(random.Random(step))
    with pytest.raises(Killed):
        world.cycle(reporter=Reporter(kill_at=step))
    world.scribble(random.Random(7))
    world.cycle()
    world.check()
    assert methods(world)[0] == "first"
    assert len(world.host.snapshots) == 1


def test_an_overflow_is_a_full_compare(world: World) -> None:
    dice = random.Random(3)
    world.scribble(dice)
    world.cycle()
    for snapshot in world.host.snapshots.values():
        snapshot.state = "invalid"
    world.host.write(8192, b"x")
    point = world.cycle()
    assert point is not None
    assert (point.facts.method, point.facts.reason, point.facts.kind) == (
        "compare", "overflow", "delta",
    )  # fmt: skip
    assert point.facts.changed_bytes == 4096
    world.check()


def test_a_cow_disk_below_its_reserve_costs_the_tracking_and_no_point(world: World) -> None:
    dice = random.Random(8)
    world.scribble(dice)
    world.cycle()
    world.scribble(dice)
    world.host.room = 1
    point = world.cycle()
    assert point is not None
    assert (point.facts.method, point.facts.reason) == ("compare", "cow-reserve")
    assert world.reporter.events == ["tracking-dropped"]
    world.scribble(dice)
    world.host.room, world.host.shortage = 1, 1 << 30
    with pytest.raises(CowReserveError):
        world.cycle()
    assert len(world.host.snapshots) == 1  # giving it up would not have helped
    world.host.room = None
    world.cycle()
    world.check()


def test_a_planted_lie_is_caught_and_resynced(world: World) -> None:
    """Old content that is not what the point holds: an event, a proof, a compare, a right point."""
    dice = random.Random(4)
    world.scribble(dice, 30)
    world.cycle()
    world.host.write(5 * 4096, b"new")
    world.host.lying_chunks[5] = b"\x77" * 4096
    point = world.cycle()
    assert point is not None
    assert world.reporter.events == ["proof-mismatch"]
    assert point.facts.proof.mismatched_blocks == 1
    assert point.facts.proof.ranges == ((5 * 4096, 6 * 4096),)
    assert (point.facts.method, point.facts.reason) == ("compare", "proof-mismatch")
    world.check()


def test_stale_fingerprints_are_not_trusted_after_a_mismatch(world: World) -> None:
    world.host.write(0, b"A" * 4096)
    world.host.write(4096, b"B" * 4096)
    world.cycle()
    name = next(n for n in os.listdir(world.path + "/f") if n.startswith("data-"))
    with open(f"{world.path}/f/{name}", "r+b") as file:
        file.seek(16)
        file.write(bytes(16))  # the fingerprint of block 1 now says: zero
    world.host.write(4096, bytes(4096))
    point = world.cycle()
    assert point is not None
    assert world.reporter.events == ["proof-mismatch", "fingerprints-wrong"]
    assert point.facts.kind == "full"
    world.check()


def test_lost_fingerprints_start_afresh(world: World) -> None:
    world.scribble(random.Random(5))
    world.cycle()
    FingerprintStore(world.path + "/f").drop()
    world.host.write(0, b"y")
    point = world.cycle()
    assert point is not None
    assert (point.facts.kind, point.facts.reason) == ("full", "fingerprints-gone")
    world.check()


@pytest.mark.parametrize(("size", "reason"), [(80 * 4096, "grown"), (32 * 4096 + 512, "shrunk")])
def test_a_resized_volume(world: World, size: int, reason: str) -> None:
    world.host.write(0, b"z" * len(world.host.content))
    world.cycle()
    world.host.resize(size)
    point = world.cycle()
    assert point is not None
    assert (point.facts.method, point.facts.reason) == ("compare", reason)
    world.host.write(size - 600, b"end")
    world.cycle()
    world.check()


def test_a_full_target_keeps_the_tracking_and_drops_the_second_snapshot(world: World) -> None:
    dice = random.Random(6)
    world.scribble(dice)
    world.cycle()
    base = set(world.host.snapshots)
    world.scribble(dice)
    world.store.room = 0
    with pytest.raises(StoreFullError):
        world.cycle()
    assert set(world.host.snapshots) == base
    world.scribble(dice)
    world.store.room = 1 << 62
    world.cycle()
    world.check()
    assert methods(world) == ["first", "tracked"]


def test_tags_are_kept_over_a_kill(world: World) -> None:
    with pytest.raises(Killed):
        world.cycle(reporter=Reporter(kill_at="taken"), tags=("release-7",))
    point = world.cycle(Asked(due=False))
    assert point is not None
    assert point.facts.tags == ("release-7",)


@pytest.mark.parametrize("seed", range(30))
def test_a_random_life(tmp_path: Path, seed: int) -> None:
    """Writes, cycles, kills, overflows, resizes and failures in random order."""
    dice = random.Random(seed)
    world = World(tmp_path, dice.choice([50 * 4096, 40 * 4096 + 1536]), dice.choice([4096, 16384]))
    for _ in range(25):
        what = dice.random()
        world.store.room = 0 if dice.random() < 0.1 else 1 << 62
        if what < 0.3:
            world.scribble(dice)
        elif what < 0.35 and world.host.snapshots:
            dice.choice(list(world.host.snapshots.values())).state = dice.choice(
                ["invalid", "half"]
            )
        elif what < 0.38:
            world.host.resize(dice.randrange(1, 60) * 4096 + dice.choice([0, 512]))
        else:
            kill_at = dice.choice(STEPS) if dice.random() < 0.4 else ""
            with contextlib.suppress(Killed, BlocksnapError):
                world.cycle(Asked(due=dice.random() < 0.7), reporter=Reporter(kill_at))
    world.store.room = 1 << 62
    with contextlib.suppress(TrackingLostError):  # a snapshot under way may be lost just now
        world.cycle(Asked(due=False))
    world.cycle()
    world.check()
    assert len(world.host.snapshots) == 1
