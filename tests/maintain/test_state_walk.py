"""The state sum, followed from point to point, is that of each image made anew."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.maintain.history import Change, History
from blocksnapd.maintain.scratch import Scratch
from blocksnapd.maintain.state_walk import UNKNOWN, StateWalk
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.slot_tables import SlotTables
from tests.maintain.support import history_lab
from tests.store.support import VOLUME


@pytest.fixture
def lab(monkeypatch):
    return history_lab(monkeypatch)


def steps(lab) -> list:
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    return list(History(lab.store, reader, lab.keys, VOLUME).steps())


def test_each_point_has_its_sum(lab, monkeypatch):
    tables = SlotTables(lab.store, lab.keys)
    for window in (1 << 19, 1):
        monkeypatch.setattr("blocksnapd.maintain.history.WINDOW_RUNS", window)
        with Scratch() as scratch:
            walk = StateWalk(scratch, tables.identities)
            for step, (point, _) in zip(steps(lab), lab.kept, strict=True):
                walk.apply(step.change)
                assert walk.state_sum == point.facts.state_sum


def test_it_takes_out_what_it_replaces(lab):
    """Without what a change replaces and with what it puts there, a sum is the next one."""
    tables = SlotTables(lab.store, lab.keys)
    mask = (1 << 64) - 1
    with Scratch() as scratch:
        walk, before = StateWalk(scratch, tables.identities), 0
        for step in steps(lab):
            known = Change(step.change.span, min(step.change.floor, 1 << 40))
            under, added = walk.sum_under(known), walk.sum_of(known)
            walk.apply(step.change)
            low = (before - under + added) & mask
            high = ((before >> 64) - (under >> 64) + (added >> 64)) & mask
            assert walk.state_sum == high << 64 | low
            before = walk.state_sum


def test_an_unknown_identity_leaves_the_sum_open_until_it_is_written_over(lab):
    tables = SlotTables(lab.store, lab.keys)
    second = lab.kept[1][0].name

    def identities(place, slots):
        found = np.array(tables.identities(place, slots))
        if place.holder == second:  # blocks 0, 10, 11 and 99
            found[:] = UNKNOWN
        return found

    with Scratch() as scratch:
        walk = StateWalk(scratch, identities)
        known = []
        for step in steps(lab):
            walk.apply(step.change)
            known.append(walk.state_sum is not None)
    assert known == [True, False, False, False, False, True, True, True]


def test_a_table_that_is_lost(lab):
    with Scratch() as scratch:
        walk = StateWalk(scratch, lambda _place, _slots: None)
        step = steps(lab)[0]
        assert walk.sum_of(step.change) is None
        walk.apply(step.change)
        assert walk.state_sum is None
        assert walk.sum_under(step.change) is None
