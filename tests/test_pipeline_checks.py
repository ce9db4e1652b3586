"""What a cycle does besides tracking: ships damaged content again, holds tracking to account."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from blocksnapd.blocks import hash_blocks
from blocksnapd.cycle.rotation import Asked
from blocksnapd.maintain.heal import find_healing
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.model import Wanted
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.repository import Repository
from tests.fakes.memory_objects import MemoryObjects
from tests.fakes.memory_store import HASH_KEY
from tests.maintain.support import flipped
from tests.store.support import check_image, make_repository
from tests.test_pipeline import World

if TYPE_CHECKING:
    from pathlib import Path

COMPARE = Asked(due=True, compare="asked")
VOLUME = "memory-volume"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.host.write(0, random.Random(9).randbytes(len(made.host.content) - 8 * 4096))
    made.cycle()
    return made


def wanted(world: World, blocks: list[int], **others) -> Wanted:
    data = memoryview(b"".join(world.host.content[b * 4096 : (b + 1) * 4096] for b in blocks))
    rows = hash_blocks(data, 4096, HASH_KEY)
    return Wanted(np.array(blocks, dtype=np.uint64), rows, records=("t/r",), **others)


def test_wanted_blocks_go_along_though_unchanged(world):
    world.store.asked = wanted(world, [3, 4, 10, 11])
    world.host.write(10 * 4096, b"changed")
    world.host.write(20 * 4096, b"changed")
    point = world.cycle()
    assert world.reporter.events == ["shipped-again"]
    assert point.facts.kind == "delta"
    assert point.facts.changed_bytes == 2 * 4096  # what changed, not what went along
    assert point.shipped_bytes == 5 * 4096  # 3, 4 and 11 as they were, 10 and 20 as they are
    assert not world.store.asked.records
    world.check()
    assert world.cycle().shipped_bytes == 0
    assert world.reporter.events == []


def test_what_changed_long_ago_is_not_shipped_again(world):
    asked = wanted(world, [3, 4])
    world.host.write(3 * 4096, b"changed")
    world.cycle()
    world.store.asked = asked
    assert world.cycle().shipped_bytes == 4096
    world.check()


def test_content_nobody_knows_is_shipped_where_there_is_any(world):
    rows = np.zeros((3, 16), dtype=np.uint8)
    world.store.asked = Wanted(np.array([3, 60, 1000], dtype=np.uint64), rows, records=("t/r",))
    assert world.cycle().shipped_bytes == 4096  # 60 is zero, and there is no 1000
    world.check()


def test_where_all_builds_on_what_is_lost_a_full_point_is_made(world):
    world.store.asked = wanted(world, [], afresh=True)
    point = world.cycle()
    assert (point.facts.kind, point.facts.reason) == ("full", "damaged")
    assert world.reporter.events == ["shipped-again"]
    assert world.cycle().facts.kind == "delta"
    world.check()


def test_a_cycle_that_fails_leaves_what_was_wanted(world):
    world.store.asked = wanted(world, [3])
    world.store.room = 0
    with pytest.raises(Exception, match="no room"):
        world.cycle()
    assert world.store.asked.records == ("t/r",)
    world.store.room = 1 << 40
    assert world.cycle().shipped_bytes == 4096


def test_a_compare_holds_tracking_to_account(world):
    world.host.write(5 * 4096, b"tracked")
    world.host.content[30 * 4096 : 30 * 4096 + 3] = b"lie"  # past the snapshot that tracks
    world.host.content[31 * 4096 : 31 * 4096 + 3] = b"lie"
    base = world.store.kept[-1].point.facts.point_id
    point = world.cycle(COMPARE)
    assert world.reporter.events == ["tracking-lied"]
    assert (point.facts.method, point.facts.reason) == ("compare", "asked")
    assert point.facts.proof.mismatched_blocks == 2
    assert point.facts.proof.ranges == ((30 * 4096, 32 * 4096),)
    assert base != point.facts.point_id
    assert world.store.kept[-1].image == bytes(world.host.content)
    world.cycle(COMPARE)
    assert world.reporter.events == []


def test_a_compare_with_honest_tracking_says_nothing(world):
    dice = random.Random(3)
    for _ in range(4):
        world.scribble(dice)
        point = world.cycle(COMPARE)
        assert world.reporter.events == []
        assert point.facts.method == "compare"
        assert point.facts.proof.checked_blocks > 0  # the base was proven on the way
        assert point.facts.proof.mismatched_blocks == 0
    world.check()


def test_a_compare_proves_the_base_too(world):
    world.host.write(5 * 4096, b"new")
    world.host.lying_chunks[5] = b"\x77" * 4096
    point = world.cycle(COMPARE)
    assert world.reporter.events == ["proof-mismatch"]
    assert point.facts.proof.mismatched_blocks == 1
    world.check()


def test_a_compare_goes_on_without_a_base_that_is_lost(world):
    world.host.write(5 * 4096, b"new")
    for snapshot in world.host.snapshots.values():
        snapshot.is_unreadable = True
    assert world.cycle(COMPARE).facts.method == "compare"
    assert world.reporter.events == []
    world.check()


@pytest.mark.parametrize("at", [0, 9, 20, 200, -5000, -1])
@pytest.mark.parametrize("count", [1, 3])
def test_protection_goes_on_after_a_newest_point_that_is_damaged(tmp_path, at, count):
    """Whatever byte of it: header, body, a frame, the tag; also where it is the only one."""
    store = MemoryObjects()
    keys = make_repository(store)
    world = World(tmp_path)
    world.store = Repository.on(store, source=keys.source)
    dice = random.Random(6)
    world.host.write(0, dice.randbytes(len(world.host.content)))
    points = [world.cycle()]
    for number in range(1, count):
        world.host.write(number * 4096, dice.randbytes(4096))
        points.append(world.cycle())
    whole = store.objects[points[-1].name]
    store.objects[points[-1].name] = flipped(whole, at % len(whole))
    world.host.write(60 * 4096, dice.randbytes(4096))
    point = world.cycle()
    assert world.reporter.events == ["point-damaged"]
    assert (point.facts.kind, point.facts.reason) == ("full", "damaged")
    assert point.seq == count + 1
    points.append(point)
    world.host.write(61 * 4096, dice.randbytes(4096))
    points.append(world.cycle())
    assert world.reporter.events == []
    assert points[-1].facts.kind == "delta"
    reader = Repository.on(store, restore=keys)
    for point in (*points[: count - 1], *points[count:]):
        check_image(reader, point, world.host.instants[point.facts.point_id])
    runs = VerifyRuns(store, MaintenanceKey(keys.source, keys.metadata_private), VOLUME)
    told = runs.structure(1).problems
    assert [text.split(": ")[0] for text in told] == [points[count - 1].name]


def test_damage_is_healed_by_the_next_cycle(tmp_path, monkeypatch):
    """From a flipped bit to a volume that is whole again, by the real parts."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    store = MemoryObjects()
    keys = make_repository(store)
    world = World(tmp_path)
    world.store = Repository.on(store, source=keys.source, frame_size=65536)
    dice = random.Random(5)
    world.host.write(0, dice.randbytes(len(world.host.content)))
    points = [world.cycle()]
    for number in range(3):
        world.host.write(number * 4096, dice.randbytes(4096))
        points.append(world.cycle())
    name = max(store.list_names(f"v/{VOLUME}/d/"), key=store.size)
    store.objects[name] = flipped(store.objects[name], 70_000)

    maintenance = MaintenanceKey(keys.source, keys.metadata_private)
    runs = VerifyRuns(store, maintenance, VOLUME)
    outcome = runs.whole(1)
    assert outcome.damaged_blocks == 16
    assert [p.damaged_bytes for p in outcome.check.points] == [16 * 4096] * 4
    assert len(outcome.told) == 1

    world.host.write(60 * 4096, dice.randbytes(4096))
    points.append(world.cycle())
    assert world.reporter.events == ["shipped-again"]
    assert points[-1].facts.changed_bytes == 4096
    found = find_healing(store, maintenance, VOLUME, runs.records.read())
    assert (found.healed_blocks, found.left_blocks) == (16, 0)
    manifests = Manifests(store, maintenance)
    manifests.publish(manifests.newest(VOLUME), found.applied(found_manifest(manifests)), time_us=2)
    found.close(runs.records, time_us=2)

    again = VerifyRuns(store, maintenance, VOLUME).whole(3)
    assert again.is_whole
    reader = Repository.on(store, restore=keys)
    for point in points:
        check_image(reader, point, world.host.instants[point.facts.point_id])
    world.cycle()
    assert world.reporter.events == []


def found_manifest(manifests: Manifests):
    return manifests.newest(VOLUME).manifest
