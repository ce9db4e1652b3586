"""A whole volume is verified by reading each object once; damage harms exactly who needs it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from blocksnapd.errors import BlocksnapError, CancelledRunError
from blocksnapd.maintain.verify_levels import VolumeCheck, VolumeVerifier
from blocksnapd.store.keys import MaintenanceKey
from tests.maintain.support import changed, flipped, history_lab, packs, points
from tests.store.support import BLOCK, VOLUME, Lab


@pytest.fixture
def lab(monkeypatch) -> Lab:
    return history_lab(monkeypatch)


def key_of(lab: Lab, *, restore: bool = True) -> MaintenanceKey:
    return lab.keys if restore else MaintenanceKey(lab.keys.source, lab.keys.metadata_private)


def verify(lab: Lab, *, data: bool = True, restore: bool = True, **options) -> VolumeCheck:
    verifier = VolumeVerifier(lab.store, key_of(lab, restore=restore), VOLUME, **options)
    found = verifier.structure()
    if data:
        verifier.data(found, list(found.packs))
    return found


def truth(lab: Lab) -> list[set[int]]:
    """Return the blocks of each point that cannot be read, by reading all of them one by one."""
    found = []
    for point, image in lab.kept:
        bad = set()
        try:
            opened = lab.reader.open_image(point)
        except BlocksnapError:
            found.append(set(range(-(-len(image) // BLOCK))))
            continue
        for block in range(-(-len(image) // BLOCK)):
            view = bytearray(min(BLOCK, len(image) - block * BLOCK))
            try:
                opened.read_into(block * BLOCK, memoryview(view))
            except BlocksnapError:
                bad.add(block)
            else:
                assert view == image[block * BLOCK : block * BLOCK + len(view)]
        found.append(bad)
    return found


def said(found: VolumeCheck) -> list[set[int]]:
    return [
        {b for s, e in point.damaged for b in range(s // BLOCK, -(-e // BLOCK))}
        for point in found.points
    ]


@pytest.mark.parametrize("restore", [True, False])
def test_a_whole_volume(lab, restore):
    told = []
    found = verify(lab, restore=restore, progress=lambda done, total: told.append((done, total)))
    assert found.told() == []
    assert found.is_whole
    assert [p.seq for p in found.points] == list(range(1, 9))
    assert all(p.is_whole and not p.damaged for p in found.points)
    assert set(found.objects) >= {*points(lab), *packs(lab)}
    assert found.read_blocks == sum(use.place.ref.blocks for use in found.packs.values())
    assert told[-1][0] == told[-1][1] == found.read_bytes
    assert found.newest_seq == 8


def test_each_pack_is_read_once_however_many_points_need_it(lab, monkeypatch):
    read = Counter()
    whole = type(lab.store).get_range

    def get_range(self, name, offset, size):
        read[name] += size
        return whole(self, name, offset, size)

    monkeypatch.setattr(type(lab.store), "get_range", get_range)
    verify(lab)
    for name in packs(lab):
        size = len(lab.store.objects[name])
        assert size <= read[name] < size + 2 * 2000  # its tail once more for each of the levels


@pytest.mark.parametrize("restore", [True, False])
def test_a_flipped_bit_in_any_frame_harms_exactly_the_points_that_need_it(lab, restore):
    for name in packs(lab):
        data = lab.store.objects[name]
        for at in range(100, len(data) - 1500, 20_000):
            with changed(lab, name, flipped(data, at)):
                found = verify(lab, restore=restore)
                assert said(found) == truth(lab)
                assert any(said(found))
                assert [text.split(": ")[0] for text in found.told()] == [name]
                assert verify(lab, data=False).is_whole  # the structure is


def test_a_flipped_bit_in_an_inline_pack_harms_its_point_and_those_that_need_the_block(lab):
    name = points(lab)[1]
    data = lab.store.objects[name]
    for at in (-10, -2500, -9000, -15_000):  # tag, index and frames
        with changed(lab, name, flipped(data, len(data) + at)):
            found = verify(lab)
            assert said(found) == truth(lab), at
            assert not found.points[1].is_whole
            assert found.points[5].is_whole
            assert all(name in text for text in found.told())
            assert verify(lab, restore=False).points[2].damaged == found.points[2].damaged
    assert said(found)[2] != set()


@pytest.mark.parametrize("how", ["gone", "tail", "short", "empty"])
def test_a_pack_without_its_table(lab, how):
    for name in packs(lab):
        data = lab.store.objects[name]
        other = {
            "gone": None, "tail": flipped(data, len(data) - 300), "short": data[:-1], "empty": b"",
        }[how]  # fmt: skip
        with changed(lab, name, other):
            for with_data in (False, True):
                found = verify(lab, data=with_data)
                assert said(found) == truth(lab)
                assert found.told()[0].startswith(f"{name}: ")
                assert len(found.told()) == 1
                assert len(found.identities) == 0


def test_bytes_after_the_end_of_a_pack_harm_nobody_and_are_told(lab):
    name = packs(lab)[0]
    with changed(lab, name, lab.store.objects[name] + b"\0"):
        found = verify(lab)
        assert [name in text for text in found.told()] == [True]
        assert not any(said(found))
        assert all(p.is_whole for p in found.points)


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_a_lost_point_harms_itself_and_what_follows_until_the_next_full_one(lab, at, how):
    name = points(lab)[at]
    data = lab.store.objects[name]
    with changed(lab, name, None if how == "gone" else flipped(data, 200)):
        found = verify(lab)
        assert any(text.startswith(f"{name}: ") for text in found.told()) or (at, how) == (
            7,
            "gone",
        )
        by_seq = {p.seq: p for p in found.points}
        for seq in range(1, 9):
            harmed = at + 1 <= seq and (seq < 6 or at >= 5)
            point = by_seq.get(seq)
            if point is None:
                assert harmed  # gone without a manifest that lists it
                continue
            size = len(lab.kept[seq - 1][1])
            assert (point.damaged == [(0, size)]) == (harmed and point.size > 0)
            assert point.is_whole is not harmed


def test_points_that_two_damages_hit(lab):
    one, two = packs(lab)[:2]
    with (
        changed(lab, one, flipped(lab.store.objects[one], 10)),
        changed(lab, two, flipped(lab.store.objects[two], 70_000)),
    ):
        found = verify(lab)
        assert said(found) == truth(lab)
        assert set(found.lost) == {one, two}
        for name in (one, two):
            slots, blocks = found.uses[name]
            assert len(slots) == len(blocks) == 16
            assert (np.diff(slots.astype(int)) == 1).all()


def test_damage_told_before_is_added(lab):
    verifier = VolumeVerifier(lab.store, lab.keys, VOLUME)
    found = verifier.structure()
    name = packs(lab)[0]
    verifier.add_lost(found, {name: np.array([3, 4])})
    assert [sorted(blocks) for blocks in said(found)[:2]] == [[7, 8], [7, 8]]


def test_a_sum_that_does_not_fit_is_told_and_what_follows_too(lab):
    changed_blocks = lab.write([40])
    sink = lab.sink(9)
    lab.feed(sink, changed_blocks)
    lab.write([41])  # the sum is of an image with a block that was not given
    sink.commit(lab.facts("delta", 9))
    found = verify(lab, data=False)
    assert [p.seq for p in found.points if p.problems] == [9]
    assert "do not add up" in found.told()[0]
    assert found.told()[0].startswith(points(lab)[-1])


def test_one_more_in_place_of_another_is_told(lab):
    """A point of another history under a name: genuine, but not the one its successor follows."""
    name = points(lab)[1]
    before = dict(lab.store.objects)
    for later in points(lab)[1:]:
        del lab.store.objects[later]
    other = Lab(store=lab.store, keys=lab.keys, blocks=100)
    other.image[:] = np.frombuffer(lab.kept[0][1], dtype=np.uint8).reshape(-1, BLOCK)
    other.commit(other.write([9]), number=2)
    foreign = lab.store.objects[name]
    lab.store.objects.clear()
    lab.store.objects.update(before)
    with changed(lab, name, foreign):
        found = verify(lab)
        assert "was written after another" in " ".join(found.told())
        assert [p.is_whole for p in found.points] == [True, True, *[False] * 3, *[True] * 3]


def test_strange_objects_are_told(lab):
    lab.store.objects[f"v/{VOLUME}/p/junk"] = b""
    assert verify(lab).told() == [f"v/{VOLUME}/p/junk: it is not a point"]


def test_nothing_at_all():
    found = verify(Lab())
    assert found.is_whole
    assert found.newest_seq == 0


def test_it_can_be_cancelled(lab):
    answers = iter([False] * 3 + [True] * 100)
    with pytest.raises(CancelledRunError):
        verify(lab, cancelled=lambda: next(answers))


def test_many_lost_slots_are_mapped_in_groups(lab, monkeypatch):
    expected = []
    names = packs(lab)
    lost = {name: np.arange(16) for name in names}
    for limit in (1 << 22, 20):
        monkeypatch.setattr("blocksnapd.maintain.verify_levels._LOST_SLOTS_MAX", limit)
        verifier = VolumeVerifier(lab.store, lab.keys, VOLUME)
        found = verifier.structure()
        verifier.add_lost(found, lost)
        expected.append(([p.damaged_bytes for p in found.points], sorted(found.uses)))
    assert expected[0] == expected[1]
    assert sum(expected[0][0]) > 0
