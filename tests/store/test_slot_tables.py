"""Tables of packs at hand: each tail is read once as long as there is room."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.store import slot_tables
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.slot_tables import SlotTables
from tests.maintain.support import history_lab, packs


@pytest.fixture
def lab(monkeypatch):
    return history_lab(monkeypatch)


def places(lab) -> list:
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    return reader.load(lab.kept[0][0].name).places()


def test_identities_are_those_of_the_blocks(lab):
    first = places(lab)[0]
    found = SlotTables(lab.store, lab.keys).identities(first, np.array([3, 0]))
    image = np.frombuffer(lab.kept[0][1], dtype=np.uint8).reshape(-1, 4096)
    lab.image = image
    assert (found == lab.hashes([7, 4])).all()


def test_a_tail_is_read_once_while_there_is_room(lab, monkeypatch):
    seen = []
    tables = SlotTables(lab.store, lab.keys, seen.append)
    for _ in range(2):
        for place in places(lab):
            tables.identities(place, np.array([0]))
    assert len(seen) == len(places(lab)) == 3
    monkeypatch.setattr(slot_tables, "SLOTS_MAX", 1)
    tables = SlotTables(lab.store, lab.keys, seen.append)
    for place in (*places(lab), places(lab)[0]):
        tables.identities(place, np.array([0]))
    assert len(seen) == 3 + 4


def test_a_pack_that_is_gone_has_no_table(lab):
    seen = []
    name = packs(lab)[0]
    del lab.store.objects[name]
    tables = SlotTables(lab.store, lab.keys, seen.append)
    gone = next(place for place in places(lab) if place.ref.name == name)
    assert tables.identities(gone, np.array([0])) is None
    assert [(check.place, bool(check.problem)) for check in seen] == [(gone, True)]
