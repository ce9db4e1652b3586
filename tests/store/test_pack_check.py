"""One pack, read whole: damage is told to the frame, with and without the key of data."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from blocksnapd.errors import StoreError
from blocksnapd.store import pack_check
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.pack_check import check_pack
from blocksnapd.store.point_reader import PointReader
from tests.maintain.support import changed, flipped, history_lab


@pytest.fixture
def lab(monkeypatch):
    return history_lab(monkeypatch)


@pytest.fixture
def place(lab):
    """A pack of 32 blocks in two frames."""
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    return reader.load(lab.kept[0][0].name).places()[0]


@pytest.fixture(params=["restore key", "maintenance key"])
def key(request, lab):
    if request.param == "restore key":
        return lab.keys
    return MaintenanceKey(lab.keys.source, lab.keys.metadata_private)


def test_a_whole_pack(lab, place, key):
    found = check_pack(lab.store, place, key, with_data=True)
    assert (found.problem, found.blocks, len(found.lost)) == ("", 32, 0)
    assert check_pack(lab.store, place, key, with_data=False).blocks == 0


def test_what_reads_well_the_second_time_is_well(lab, place, key, monkeypatch):
    read, stumbles = lab.store.get_range, [1]

    def get_range(name: str, start: int, size: int) -> bytes:
        if stumbles and start == 0:
            stumbles.pop()
            raise StoreError("the network stumbled")
        return read(name, start, size)

    monkeypatch.setattr(lab.store, "get_range", get_range)
    found = check_pack(lab.store, place, key, with_data=True)
    assert (found.problem, len(found.lost), stumbles) == ("", 0, [])


@pytest.mark.parametrize(("at", "lost"), [(5, range(16)), (70_000, range(16, 32))])
def test_damage_of_a_frame(lab, place, key, at, lost):
    name = place.ref.name
    with changed(lab, name, flipped(lab.store.objects[name], at)):
        found = check_pack(lab.store, place, key, with_data=True)
        assert found.lost.tolist() == list(lost)
        assert f"frame {lost[0] // 16}" in found.problem
        assert check_pack(lab.store, place, key, with_data=False).problem == ""


def test_without_sums_any_damage_is_damage_of_all_for_who_cannot_open_frames(lab, place, key):
    name = place.ref.name
    with changed(lab, name, flipped(lab.store.objects[name], 5)):
        reader = check_pack(lab.store, place, key, with_data=False).reader
        # As of a writer that kept none.
        reader.index = replace(reader.index, frame_sums=np.zeros((0, 8), dtype=np.uint8))
        slots, problem = pack_check._read_all(reader, key)
    assert problem
    assert len(slots) == (16 if key is lab.keys else 32)


@pytest.mark.parametrize("data", [None, b"", b"x" * 500])
def test_no_tail_no_slot(lab, place, key, data):
    with changed(lab, place.ref.name, data):
        found = check_pack(lab.store, place, key, with_data=True)
    assert found.reader is None
    assert len(found.lost) == place.ref.blocks
    assert found.problem


def test_another_digest_than_the_point_says(lab, place, key):
    other = msgspec.structs.replace(place.ref, digest="ab" * 32)
    found = check_pack(lab.store, replace(place, ref=other), key, with_data=True)
    assert "digest" in found.problem


def test_a_disk_that_fails_in_the_middle_loses_those_frames_only(lab, place, key, monkeypatch):
    monkeypatch.setattr("blocksnapd.store.pack_check._READ_FRAMES", 1)
    whole = type(lab.store).get_range

    def fails(self, name, offset, size):
        if offset > 1000 and size > 10_000:
            raise StoreError("EIO")
        return whole(self, name, offset, size)

    monkeypatch.setattr(type(lab.store), "get_range", fails)
    found = check_pack(lab.store, place, key, with_data=True)
    assert found.problem == "EIO"
    assert found.lost.tolist() == list(range(16, 32))
