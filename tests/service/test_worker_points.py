"""What a worker opens of a long history, and what it sees of one that goes on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from blocksnapd.errors import ChecksumError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service import worker_points
from blocksnapd.service.worker_points import WorkerPoints
from blocksnapd.store.files import LocalStore
from blocksnapd.store.names import is_point_name
from blocksnapd.store.repository import Repository
from tests.store.support import VOLUME, Lab

if TYPE_CHECKING:
    from pathlib import Path

POINTS = 12


class Counting(LocalStore):
    """Counts which objects are read."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.read = Counter[str]()

    def get(self, name: str, *, size_max: int) -> bytes:
        self.read[name] += 1
        return super().get(name, size_max=size_max)

    def points_read(self) -> int:
        """Return how many points were opened, and forget it."""
        count = sum(times for name, times in self.read.items() if is_point_name(name))
        self.read.clear()
        return count


class Scene:
    """A volume of many points, and who looks at it."""

    def __init__(self, path: Path) -> None:
        self.store = Counting(str(path))
        self.lab = Lab(store=self.store)
        self.lab.write(range(8), noise=True)
        self.lab.commit()
        for number in range(1, POINTS):
            self.lab.commit(self.lab.write(range(number, number + 3), noise=True))
        self.pruner = Pruner(self.store, self.lab.keys, ManualClock().now)
        self.points = self.seen()

    def seen(self) -> WorkerPoints:
        """Return somebody who has seen nothing yet."""
        keys = self.lab.keys
        repository = Repository.on(self.store, maintenance=keys, restore=keys)
        return WorkerPoints(repository, "here", self.pruner)

    def list_all(self) -> None:
        """Let a manifest list every point there is."""
        ledger = self.pruner.look(VOLUME)
        self.pruner.hold(VOLUME, ledger.points[0].point_id)

    def damage(self, number: int) -> str:
        """Change a byte of a point; return its id."""
        point, _ = self.lab.kept[number]
        path = f"{self.store.url}/{point.name}"
        with open(path, "r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
        return point.facts.point_id


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_listed_points_are_not_opened_but_for_the_newest_and_the_one_chosen(scene: Scene):
    scene.list_all()
    scene.store.points_read()
    await scene.points.load()
    assert scene.store.points_read() == 1
    every = await scene.points.points(None)
    assert [p["seq"] for p in every] == list(range(1, POINTS + 1))
    assert {p["volume"] for p in every} == {scene.lab.kept[0][0].facts.volume_name}
    chosen = await scene.points.point(every[4]["id"])
    assert scene.store.points_read() == 1
    assert chosen["driver"] == scene.lab.kept[4][0].facts.driver
    assert {k: v for k, v in chosen.items() if k in every[4]} == every[4]


async def test_what_lists_tell_is_what_the_points_tell(scene: Scene):
    await scene.points.load()
    fresh = await scene.points.points(None)
    scene.list_all()
    listed = scene.seen()
    await listed.load()
    without_hold = [{k: v for k, v in p.items() if k != "held"} for p in await listed.points(None)]
    assert without_hold == fresh


async def test_a_listed_point_that_is_damaged_is_found_so_when_it_is_chosen(scene: Scene):
    scene.list_all()
    damaged = scene.damage(6)
    await scene.points.load()
    every = await scene.points.points(None)
    found = await scene.points.point(f"{every[6]['volume']}@{every[6]['time']}")
    assert found["seq"] == 6
    assert found["note"] == f"Left out, because they are damaged: {damaged}."
    with pytest.raises(ChecksumError, match=damaged):
        await scene.points.point(damaged)
    assert damaged not in {p["id"] for p in await scene.points.points(None)}


async def test_a_listed_point_that_is_gone_is_told(scene: Scene):
    scene.list_all()
    gone = scene.lab.kept[3][0]
    scene.store.delete(gone.name)
    await scene.points.load()
    with pytest.raises(ChecksumError, match=gone.facts.point_id):
        await scene.points.point(gone.facts.point_id)
    assert len(await scene.points.points(None)) == POINTS - 1


async def test_one_that_lives_long_sees_new_points(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    now: list[Any] = [100.0]
    monkeypatch.setattr(worker_points.time, "monotonic", lambda: now[0])
    await scene.points.load()
    latest = f"latest:{scene.lab.kept[0][0].facts.volume_name}"
    assert (await scene.points.point(latest))["seq"] == POINTS
    scene.lab.commit(scene.lab.write(range(2), noise=True))
    scene.store.points_read()
    assert (await scene.points.point(latest))["seq"] == POINTS, "it has just looked"
    assert scene.store.points_read() == 0
    now[0] += worker_points.FRESH_S + 1
    assert (await scene.points.point(latest))["seq"] == POINTS + 1


async def test_the_next_points_proof_makes_one_suspect(scene: Scene):
    scene.list_all()
    await scene.points.load()
    (volume,) = scene.points._volumes.values()
    volume.entries = [
        replace(entry, mismatched_blocks=2 if at == 5 else 0)
        for at, entry in enumerate(volume.entries)
    ]
    suspects = [p["seq"] for p in await scene.points.points(None) if p.get("suspect")]
    assert suspects == [5]
    assert scene.points.is_suspect(scene.lab.kept[4][0])
    assert not scene.points.is_suspect(scene.lab.kept[5][0])
