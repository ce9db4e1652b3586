"""Records in a store: what was told stays told until it is healed; few objects."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import ObjectExistsError
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.names import parse_record_name, records_prefix
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.record_format import BadRecord, BadRows, bad_pack_record
from tests.fakes.memory_objects import MemoryObjects
from tests.store.support import VOLUME, make_repository

DAY = 86_400_000_000


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def records(store) -> CheckRecords:
    return CheckRecords(store, make_repository(store).source, VOLUME)


def bad(pack: str, blocks: list[int], *, identity: int = 1, time_us: int = DAY) -> BadRecord:
    rows = BadRows(
        np.arange(len(blocks), dtype=np.uint64),
        np.array(blocks, dtype=np.uint64),
        np.full((len(blocks), 16), identity, dtype=np.uint8),
    )
    ref = PackRef(pack, 9, "", 4, "", 100)
    return bad_pack_record(ref, rows, "torn", time_us=time_us, newest_seq=1)


def names(store: MemoryObjects) -> list[str]:
    return store.list_names(records_prefix(VOLUME))


def test_nothing_told(records, store):
    told = records.read()
    assert (told.checked, told.bad, told.problems) == ({}, {}, {})
    wanted = records.wanted()
    assert len(wanted.blocks) == 0
    assert not wanted.afresh
    records.add_ok([], time_us=5)
    assert names(store) == []


def test_the_last_check_counts(records, store):
    records.add_ok(["b", "a"], time_us=2 * DAY)
    records.add_ok(["a"], time_us=DAY)
    records.add_ok(["c"], time_us=3 * DAY)
    assert records.read().checked == {"a": 2 * DAY, "b": 2 * DAY, "c": 3 * DAY}
    assert parse_record_name(names(store)[0]).kind == "ok"
    assert names(store)[0].split("/")[2] == "197001"


def test_damage_is_told_until_it_is_healed(records, store):
    one = records.add_bad(bad("one", [5, 6]))
    two = records.add_bad(bad("two", [7], time_us=2 * DAY))
    assert list(records.read().bad) == [one, two]
    assert records.wanted().blocks.tolist() == [5, 6, 7]
    assert records.wanted({two}).blocks.tolist() == [5, 6]
    records.close(one, time_us=3 * DAY)
    assert list(records.read().bad) == [two]
    assert records.wanted().records == (two,)
    with pytest.raises(ObjectExistsError):
        records.close(one, time_us=3 * DAY)


def test_a_block_is_wanted_once_for_each_content(records):
    records.add_bad(bad("one", [5, 6]))
    records.add_bad(bad("two", [6, 7]))
    records.add_bad(bad("three", [6], identity=2))
    wanted = records.wanted()
    assert wanted.blocks.tolist() == [5, 6, 6, 7]
    assert wanted.identities[:, 0].tolist() == [1, 1, 2, 1]
    assert not wanted.afresh


def test_a_lost_object_wants_everything(records):
    records.add_bad(BadRecord("v/vol-1/p/x.pt", "gone", 5, 2))
    assert records.wanted().afresh
    assert len(records.wanted().blocks) == 0


def test_the_hash_key_of_a_source_is_enough(records, store):
    records.add_bad(bad("one", [5]))
    again = CheckRecords(store, records._source, VOLUME)
    assert again.wanted().blocks.tolist() == [5]


def test_a_record_that_is_damaged_is_named_and_closes_nothing(records, store):
    one = records.add_bad(bad("one", [5]))
    records.add_ok(["a"], time_us=DAY)
    records.close(one, time_us=DAY)
    for name in names(store):
        whole = store.objects[name]
        store.objects[name] = whole[:-1] + bytes([whole[-1] ^ 1])
        told = records.read()
        assert list(told.problems) == [name]
        if name.endswith(".healed"):
            assert list(told.bad) == [one]
            assert records.wanted().blocks.tolist() == [5]
        store.objects[name] = whole
    assert records.read().problems == {}


def test_the_healed_record_of_another_closes_nothing(records, store):
    one, two = records.add_bad(bad("one", [5])), records.add_bad(bad("two", [6]))
    records.close(one, time_us=DAY)
    store.objects[two.replace(".bad", ".healed")] = store.objects[one.replace(".bad", ".healed")]
    told = records.read()
    assert list(told.bad) == [two]
    assert list(told.problems) == [two.replace(".bad", ".healed")]


def test_many_are_joined_and_dead_packs_forgotten(records, store):
    damage = records.add_bad(bad("one", [5]))
    for day in range(20):
        records.add_ok([f"pack-{day}", "again"], time_us=day * DAY)
    before = records.read()
    records.join({"again", "pack-3", "pack-19"}, time_us=20 * DAY, at_least=50)
    assert len(names(store)) == 21
    records.join({"again", "pack-3", "pack-19"}, time_us=20 * DAY)
    assert len(names(store)) == 2
    after = records.read()
    assert after.checked == {"pack-3": 3 * DAY, "again": 19 * DAY, "pack-19": 19 * DAY}
    assert all(before.checked[name] == when for name, when in after.checked.items())
    assert list(after.bad) == [damage]


def test_strange_names_are_told(records, store):
    store.objects[f"t/{VOLUME}/202601/junk"] = b"x"
    assert list(records.read().problems) == [f"t/{VOLUME}/202601/junk"]
