"""Chains of points: followed by name and digest back to the nearest full one, no further."""

from __future__ import annotations

import pytest

from blocksnapd.errors import ChecksumError, NotFoundError
from blocksnapd.store.point_reader import PointReader, map_of
from tests.store.support import Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    lab = Lab(blocks=30)
    lab.write(range(20))
    lab.commit()
    lab.commit(lab.write([1]))
    lab.commit()
    lab.commit(lab.write([2]))
    lab.commit(lab.zero([3]))
    return lab


@pytest.fixture
def reader(lab) -> PointReader:
    return PointReader(lab.store, lab.keys.source, lab.keys)


def test_a_chain_ends_at_the_nearest_full_point(lab, reader):
    chain = reader.chain(lab.kept[4][0].name, lab.kept[4][0].digest)
    assert [loaded.point.seq for loaded in chain] == [3, 4, 5]
    assert [loaded.point for loaded in chain] == [point for point, _ in lab.kept[2:]]
    assert len(reader.chain(lab.kept[2][0].name)) == 1


def test_another_digest_than_asked_for_is_refused(lab, reader):
    with pytest.raises(ChecksumError, match="another digest"):
        reader.chain(lab.kept[4][0].name, "0" * 64)


def test_a_gap_in_the_chain_is_told(lab, reader, monkeypatch):
    without = dict(lab.store.objects)
    del without[lab.kept[3][0].name]
    monkeypatch.setattr(lab.store, "objects", without)
    with pytest.raises(NotFoundError, match="there is no point"):
        reader.chain(lab.kept[4][0].name)


def test_the_map_holds_what_the_image_holds(lab, reader):
    mapped = map_of(reader.chain(lab.kept[4][0].name))
    assert mapped.runs.blocks == 19
    assert len(mapped.places) == 2  # the last point only zeroed
    assert {place.holder for place in mapped.places} == {p.name for p, _ in lab.kept[2:4]}
