"""Points that are opened: genuine, whole, with the key at hand; everyone else is told why not."""

from __future__ import annotations

import pytest

from blocksnapd.errors import ChecksumError, KeyMissingError, NotFoundError
from blocksnapd.store.point_reader import PointReader
from tests.store.support import Lab
from tests.store.walking import walked


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


def test_a_point_is_what_was_committed(lab, reader):
    for point, _ in lab.kept:
        assert reader.load(point.name).point == point
        assert reader.load_clear(point.name).digest == point.digest


def test_its_packs_lie_within_it_or_beside_it(lab, reader):
    places = reader.load(lab.kept[2][0].name).places()
    assert [place.holder for place in places] == [lab.kept[2][0].name]
    assert places[0].offset == reader.load_clear(lab.kept[2][0].name).inline_at
    assert reader.load(lab.kept[4][0].name).places() == []  # it only zeroed


def test_what_is_gone_or_damaged_is_told(lab, reader, monkeypatch):
    name = lab.kept[3][0].name
    objects = dict(lab.store.objects)
    monkeypatch.setattr(lab.store, "objects", objects)
    data = objects[name]
    objects[name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ChecksumError):
        reader.load(name)
    del objects[name]
    with pytest.raises(NotFoundError, match="there is no point"):
        reader.load(name)


def test_without_a_key_of_metadata_only_the_clear_part_opens(lab):
    reader = PointReader(lab.store, lab.keys.source, None)
    name = lab.kept[0][0].name
    assert reader.load_clear(name).header.seq == 1
    with pytest.raises(KeyMissingError, match=r"maintenance\.key or restore\.key"):
        reader.load(name)


def test_the_walk_of_tests_knows_what_the_image_holds(lab, reader):
    found = walked(reader, lab.kept[4][0].name)
    assert sorted(found) == [block for block in range(20) if block != 3]
    assert {name for name, _ in found.values()} == {
        place.ref.name for at in (2, 3) for place in reader.load(lab.kept[at][0].name).places()
    }
