"""Trouble in the middle of a cycle: what it may cost, and what it must not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.rotation import Asked
from blocksnapd.errors import (
    CancelledRunError,
    ObjectExistsError,
    StoreError,
    TrackingLostError,
    VolumeError,
)
from blocksnapd.ship.fingerprints import FingerprintStore
from tests.fakes.memory_store import MemorySink
from tests.test_pipeline import Killed, Reporter, World, methods

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blocksnapd.model import PointFacts, RestorePoint


class Acting(Reporter):
    """Does something at a step or after a phase."""

    def __init__(self, at: str, act: Callable[[], None]) -> None:
        super().__init__()
        self._at = at
        self._act = act

    def step(self, name: str) -> None:
        super().step(name)
        if name == self._at:
            self._act()

    def phase(self, name: str, seconds: float) -> None:
        if name == self._at:
            self._act()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.scribble(random.Random(1))
    made.cycle()
    made.scribble(random.Random(2))
    return made


def base_of(world: World) -> set[str]:
    return {world.store.kept[-1].point.facts.point_id}


@pytest.mark.parametrize("growth", [512, 4096, 40960])
def test_a_volume_that_grew_over_its_pending_snapshot(world: World, growth: int) -> None:
    """Such a snapshot shows nothing of the new end, and would track no write to it."""
    with pytest.raises(Killed):
        world.cycle(reporter=Reporter(kill_at="noted"))
    world.host.content += bytes(growth)  # while the daemon was away and the volume inactive
    world.host.write(len(world.host.content) - 100, b"new end")
    with pytest.raises(VolumeError, match="resized"):
        world.cycle(Asked(due=False))
    assert set(world.host.snapshots) == base_of(world)
    point = world.cycle()
    assert point is not None
    assert (point.facts.method, point.facts.reason) == ("compare", "grown")
    world.check()


def test_another_volume_of_the_same_name(world: World) -> None:
    """Its points must not go on in the chain of the one that was."""
    world.host.volume_id = "another"
    world.host.snapshots.clear()
    with pytest.raises(VolumeError, match="another volume"):
        world.cycle()
    assert len(world.store.kept) == 1
    assert not world.host.snapshots


def test_a_point_lost_under_way_is_a_failure(world: World) -> None:
    """Both snapshots overflow while it is shipped: the run must not pass for one without work."""

    def overflow() -> None:
        for snapshot in world.host.snapshots.values():
            snapshot.state = "invalid"

    with pytest.raises(TrackingLostError):
        world.cycle(reporter=Acting("shipped", overflow))
    world.cycle()
    world.check()
    assert methods(world) == ["first", "compare"]


def test_a_new_snapshot_that_stays_bad_is_given_up(world: World) -> None:
    """Not compared again and again: one compare of a large volume takes hours."""

    def spoil() -> None:
        newest = [s for i, s in world.host.snapshots.items() if i not in base_of(world)]
        newest[0].is_unreadable = True

    with pytest.raises(TrackingLostError):
        world.cycle(reporter=Acting("noted", spoil))
    assert world.reporter.steps.count("shipped") <= 2
    assert set(world.host.snapshots) == base_of(world)
    world.cycle()
    world.check()
    assert methods(world) == ["first", "tracked"]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("at", ["noted", "scan"])
def test_a_cancelled_run(world: World, at: str, keep: bool) -> None:
    """Cancelled, it leaves no snapshot that nobody ships; stopped, it goes on at the next start."""
    reporter = Acting(at, lambda: world.running.cancel(keep_pending=keep))
    with pytest.raises(CancelledRunError):
        world.cycle(reporter=reporter)
    assert "listed" not in reporter.steps  # neither proved to the end
    assert (set(world.host.snapshots) == base_of(world)) is not keep
    point = world.cycle(Asked(due=not keep))
    assert point is not None
    world.check()
    assert methods(world) == ["first", "tracked"]


def test_a_mistake_of_ours_leaves_no_second_snapshot(world: World) -> None:
    def fail() -> None:
        raise ValueError("nobody thought of it")

    with pytest.raises(ValueError, match="nobody thought"):
        world.cycle(reporter=Acting("listed", fail))
    assert set(world.host.snapshots) == base_of(world)


@pytest.mark.parametrize("is_away", [False, True])
def test_a_commit_whose_answer_got_lost(world: World, is_away: bool) -> None:
    """The point stands, so its snapshot is the next base: dropped, the tracking would be lost."""
    world.store.loses_answers = True
    world.store.is_away_after = is_away
    with pytest.raises(StoreError):
        world.cycle()
    world.store.loses_answers = world.store.is_away = False
    world.scribble(random.Random(3))
    world.cycle()
    world.check()
    assert methods(world) == ["first", "tracked", "tracked"]
    assert set(world.host.snapshots) == base_of(world)


def test_a_commit_that_finds_an_earlier_try_in_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network delivered it late: the same content, but in packs that were not sealed last."""
    commit = MemorySink.commit

    def too_late(sink: MemorySink, facts: PointFacts) -> RestorePoint:
        commit(sink, facts)
        raise ObjectExistsError("it is there")

    monkeypatch.setattr(MemorySink, "commit", too_late)
    with pytest.raises(ObjectExistsError):
        world.cycle()
    monkeypatch.undo()
    newest, found = world.store.kept[-1].point.facts.point_id, world.store.found
    sealed = FingerprintStore(world.path + "/f").open(newest)
    assert sealed is None, "what was sealed is not of that point"
    world.scribble(random.Random(3))
    world.cycle()
    world.check()
    assert world.store.found == found, "nothing was taken for known"
