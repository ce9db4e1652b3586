"""Simulated histories hold what they must; and the simulation sees it when something does not."""

from __future__ import annotations

import os
import random
import re
from contextlib import suppress

import pytest

from blocksnapd.errors import BlocksnapError, StoreError
from blocksnapd.maintain import merge
from blocksnapd.maintain.verify_levels import VolumeVerifier
from blocksnapd.store.pack_sender import PackSender
from blocksnapd.store.sink import Sink
from tests.sim import history, liar
from tests.sim.__main__ import play_many
from tests.sim.history import FailedSeedError, run
from tests.sim.world import BrokenError, World

SEEDS_LONG = 1000
# They vary by a byte: keys are random, and with them the digests in what is compressed.
SIZES = re.compile(r"[\d.]+ ?([KM]i)?B|\d+ bytes( of \d+)?")


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_history_with_faults_keeps_every_point(seed):
    assert run(seed, steps=60).points > 5


def test_a_seed_plays_the_same_history_again():
    logs = []
    for _ in range(2):
        world = World(5)
        history.played(world, lambda: history._play(world, 40))  # noqa: B023 - called at once
        logs.append([SIZES.sub("…", line) for line in world.log])
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 40


def test_a_failing_seed_prints_itself_and_its_last_operations(monkeypatch):
    def forget(store, name, parts):
        return len(b"".join(parts))

    monkeypatch.setattr("tests.fakes.memory_objects.MemoryObjects.put", forget)
    with pytest.raises(FailedSeedError) as caught:
        run(7, steps=30)
    assert "seed 7 broke" in str(caught.value)
    assert "python -m tests.sim 7" in str(caught.value)


def plant_point_before_packs(monkeypatch):
    """Ask for the point first and for its packs afterwards, as if order did not matter."""
    waiting = []
    real = PackSender._put_pack

    def later(self, number, pack, finished):
        waiting.append((number, pack, finished))
        self.refs[number] = finished.ref

    def commit(self, facts):
        point = real_commit(self, facts)
        for what in waiting:
            real(self._sender, *what)
        waiting.clear()
        return point

    real_commit = Sink.commit
    monkeypatch.setattr(PackSender, "_put_pack", later)
    monkeypatch.setattr(Sink, "commit", commit)


def plant_no_settling(monkeypatch):
    """Go on from a point that a dead writer may have left without its name on disk."""
    monkeypatch.setattr("tests.fakes.faulty_objects.Place.settle", lambda place, prefix: None)


def plant_removal_of_what_may_be_named(monkeypatch):
    """Remove the packs of a failed commit without a look whether the point is there."""

    def abort(self):
        for pack in self._sender.packs():
            self._store.delete(pack.name)
        self._close()

    monkeypatch.setattr(Sink, "abort", abort)


def plant_blind_verify(monkeypatch):
    """Look at the structure only, and call that everything."""
    monkeypatch.setattr(VolumeVerifier, "data", lambda self, found, names: [])


def plant_unlisting(monkeypatch):
    """Drop a layer from the manifest as soon as it was read badly once."""
    real = merge.replaced

    def replaced(points, layers, missing):
        spoiled = {layer.name for layer in layers if random.Random(layer.name).random() < 0.3}
        return [*real(points, layers, missing), *(x for x in layers if x.name in spoiled)]

    monkeypatch.setattr(merge, "replaced", replaced)


@pytest.mark.parametrize(
    ("plant", "first"),
    [(plant_point_before_packs, 0), (plant_no_settling, 52), (plant_blind_verify, 2),
     (plant_removal_of_what_may_be_named, 3), (plant_unlisting, 4)],
)  # fmt: skip
def test_a_planted_bug_is_found_within_a_few_seeds(plant, first, monkeypatch):
    """``first`` is where it is met at once, as long as the histories stay what they are."""
    plant(monkeypatch)
    for seed in range(first, first + 40):
        with suppress(FailedSeedError):
            run(seed, steps=60)
            continue
        with pytest.raises(FailedSeedError) as again:  # a seed that broke breaks again
            run(seed, steps=60)
        assert isinstance(again.value.__cause__, BrokenError | BlocksnapError)
        return
    pytest.fail("40 histories did not meet the bug")


def test_a_disk_that_lies_is_found_out():
    assert sum(liar.run(seed) for seed in range(6)) > 0


@pytest.mark.long
def test_a_thousand_histories():
    counts, broken = play_many(1000, SEEDS_LONG, jobs=os.cpu_count() or 1)
    assert broken == []
    assert counts["points"] > 5 * SEEDS_LONG
    for event in ("expired", "collected", "repacked", "verified", "pruned"):
        assert counts[event] > SEEDS_LONG / 5, event
    assert counts["healed"]


@pytest.mark.long
def test_a_hundred_disks_that_lie():
    assert sum(liar.run(seed) for seed in range(1000, 1100)) > 100


def test_no_fault_goes_unseen():
    """A failure without a fault is an error of the program: the world says so."""
    world = World(1)
    store = world.place.process()

    def fail():
        raise StoreError("out of nowhere")

    with pytest.raises(AssertionError, match="without a fault"):
        world.attempt("something", store, fail)
