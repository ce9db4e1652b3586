"""Runs of verification leave records: what is whole has its turn later, what is not stays told."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.manifest_format import Verified
from tests.maintain.support import changed, flipped, history_lab, packs, points
from tests.store.support import VOLUME, Lab

DAY = 86_400_000_000


@pytest.fixture
def lab(monkeypatch) -> Lab:
    return history_lab(monkeypatch)


def runs_of(lab: Lab, *, restore: bool = True, **options) -> VerifyRuns:
    key = lab.keys if restore else MaintenanceKey(lab.keys.source, lab.keys.metadata_private)
    return VerifyRuns(lab.store, key, VOLUME, **options)


def records(lab: Lab) -> CheckRecords:
    return CheckRecords(lab.store, lab.keys.source, VOLUME)


def test_structure_leaves_no_record_when_all_is_well(lab):
    before = set(lab.store.objects)
    outcome = runs_of(lab).structure(DAY)
    assert outcome.is_whole
    assert outcome.damaged_blocks == outcome.read_bytes == outcome.read_blocks == 0
    assert outcome.verified == (Verified(8, DAY, "structure"),)
    assert set(lab.store.objects) == before


def test_a_share_a_day_reads_all_in_turn(lab):
    uses = runs_of(lab).structure(1).check.packs.values()
    sizes = {use.place.ref.name: use.place.ref.size for use in uses}
    share, day, read = sum(sizes.values()) // 4, 0, set()
    while read != set(sizes):
        day += 1
        before = records(lab).read().checked
        outcome = runs_of(lab).rolling(day * DAY, size=share)
        after = records(lab).read().checked
        new = {name for name in after if after[name] != before.get(name)}
        assert outcome.read_bytes == sum(sizes[name] for name in new) >= share
        assert not new & read or new | read == set(sizes)  # none again before all had their turn
        read |= new
        assert day <= 4
    assert outcome.verified == (Verified(8, day * DAY, "data"),)
    first = min(after.values())
    outcome = runs_of(lab).rolling(9 * DAY, size=1)
    assert [n for n, when in records(lab).read().checked.items() if when == 9 * DAY] == [
        min(name for name, when in after.items() if when == first)
    ]


def test_rolling_goes_on_with_what_structure_found(lab, monkeypatch):
    runs = runs_of(lab)
    runs.structure(DAY)
    monkeypatch.setattr(lab.store, "list_names", lambda prefix: [] if prefix[0] == "t" else 1 / 0)
    assert runs.rolling(DAY, size=1).is_whole


@pytest.mark.parametrize("restore", [True, False])
def test_damage_is_told_once_and_stays_told(lab, restore):
    name = packs(lab)[0]
    with changed(lab, name, flipped(lab.store.objects[name], 70_000)):
        outcome = runs_of(lab, restore=restore).whole(DAY)
        assert outcome.damaged_blocks == 16
        assert len(outcome.told) == 1
        assert outcome.problems[0].startswith(name)
        again = runs_of(lab, restore=restore).whole(2 * DAY)
        assert again.told == ()
        assert again.problems == outcome.problems
    told = records(lab).read()
    assert name not in told.checked
    record = told.bad[outcome.told[0]]
    assert (record.name, record.time_us, record.newest_seq) == (name, DAY, 8)
    rows = record.rows()
    assert rows.slots.tolist() == list(range(16, 32))
    assert rows.blocks.tolist() == list(range(20, 36))
    image = np.frombuffer(lab.kept[0][1], dtype=np.uint8).reshape(-1, 4096)
    lab.image, lab.blocks = image, len(image)
    assert (rows.identities == lab.hashes(rows.blocks.astype(int))).all()
    # The disk reads well again, today: the record is not closed by that.
    for outcome in (runs_of(lab).structure(3 * DAY), runs_of(lab).whole(3 * DAY)):
        assert not outcome.is_whole
        assert "not healed yet" in outcome.problems[0]
        assert outcome.damaged_blocks == 16
        assert [bool(p.damaged) for p in outcome.check.points] == [True] * 5 + [False] * 3
    assert name not in records(lab).read().checked


def test_more_damage_of_a_pack_is_told_too(lab):
    name = packs(lab)[0]
    data = flipped(lab.store.objects[name], 70_000)
    with changed(lab, name, data):
        runs_of(lab).whole(DAY)
        with changed(lab, name, flipped(data, 10)):
            outcome = runs_of(lab).whole(2 * DAY)
    assert outcome.damaged_blocks == 32
    told = records(lab).read().bad
    assert [r.rows().slots.tolist()[0] for r in told.values()] == [16, 0]


def test_a_pack_without_table_is_told_without_identities(lab):
    name = packs(lab)[0]
    with changed(lab, name, None):
        outcome = runs_of(lab).structure(DAY)
    rows = records(lab).read().bad[outcome.told[0]].rows()
    assert len(rows) == outcome.damaged_blocks == outcome.check.packs[name].place.ref.blocks
    assert not rows.identities.any()


def test_damage_that_no_point_needs_any_more_asks_for_nothing(lab):
    name = packs(lab)[0]
    for point in points(lab)[:5]:
        del lab.store.objects[point]
    with changed(lab, name, flipped(lab.store.objects[name], 10)):
        outcome = runs_of(lab).whole(DAY)
    assert outcome.told == ()


def test_a_lost_point_that_the_newest_needs_wants_everything_afresh(lab):
    newest, before = points(lab)[-1], points(lab)[-2]
    with changed(lab, before, flipped(lab.store.objects[before], 200)):
        outcome = runs_of(lab).structure(DAY)
        assert records(lab).wanted().afresh
        assert len(outcome.told) == 1
        assert records(lab).read().bad[outcome.told[0]].name == before
        assert runs_of(lab).structure(2 * DAY).told == ()
        assert outcome.verified == (Verified(6, DAY, "structure"),)
    # Read well again, or a full point came after it: nothing is wanted any more.
    assert runs_of(lab).structure(3 * DAY).told == ()
    assert not records(lab).wanted().afresh
    with changed(lab, newest, None):
        assert runs_of(lab).structure(4 * DAY).is_whole  # nothing tells that it was there


def test_an_old_lost_point_wants_nothing(lab):
    name = points(lab)[2]
    with changed(lab, name, flipped(lab.store.objects[name], 200)):
        outcome = runs_of(lab).structure(DAY)
    assert outcome.told == ()
    assert [p.is_whole for p in outcome.check.points] == [True] * 2 + [False] * 3 + [True] * 3


def test_records_that_cannot_be_read_are_problems(lab):
    runs_of(lab).whole(DAY)
    name = lab.store.list_names(f"t/{VOLUME}/")[0]
    lab.store.objects[name] = flipped(lab.store.objects[name], 50)
    assert [text.split(":")[0] for text in runs_of(lab).structure(DAY).problems] == [name]


def test_a_part_of_the_data(lab):
    outcome = runs_of(lab).whole(DAY, share=0.3)
    total = sum(u.place.ref.size for u in outcome.check.packs.values())
    assert 0.3 * total <= outcome.read_bytes < 0.7 * total
    assert outcome.verified == ()
