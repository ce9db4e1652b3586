"""Guesses at what a pack without its table held: none is taken that no sum proves."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.maintain.history import History
from blocksnapd.maintain.lost_tables import told_rows
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.store.check_records import CheckRecords
from blocksnapd.store.point_reader import PointReader
from tests.maintain.support import packs
from tests.store.support import VOLUME, Lab


@pytest.fixture
def lab(monkeypatch) -> Lab:
    """A first point of one pack, which is gone; its blocks are 0 to 15."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab = Lab(blocks=32)
    lab.write(range(16), noise=True)
    lab.commit()
    lab.commit(lab.write([20]))
    lab.before = lab.hashes(range(16))
    name = packs(lab)[0]
    del lab.store.objects[name]
    VerifyRuns(lab.store, lab.keys, VOLUME).structure(1)
    return lab


def rows(lab):
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    history = History(lab.store, reader, lab.keys, VOLUME)
    told = CheckRecords(lab.store, lab.keys.source, VOLUME).read()
    (found,) = told_rows(lab.store, lab.keys, history, told).values()
    return found


def known(lab) -> dict[int, bytes]:
    found = rows(lab)
    return {
        block: row.tobytes()
        for block, row in zip(found.blocks.tolist(), found.identities, strict=True)
        if row.any()
    }


def test_nothing_is_known_before_it_was_shipped_again(lab):
    assert len(rows(lab)) == 16
    assert known(lab) == {}


def test_all_is_proven_by_the_points_that_have_it(lab):
    lab.commit(np.arange(16))
    assert known(lab) == {n: lab.before[n].tobytes() for n in range(16)}


def test_a_part_proves_nothing(lab):
    lab.commit(np.arange(15))
    assert known(lab) == {}


def test_one_block_that_changed_spoils_every_sum_it_is_in(lab):
    lab.write([3])
    lab.commit(np.arange(16))
    assert known(lab) == {}


def test_what_was_written_over_before_is_left_out(lab):
    lab.commit(lab.write([3]))  # this point needs no more of it
    lab.commit(np.arange(16))
    proven = {n: lab.before[n].tobytes() for n in range(16) if n != 3}
    assert known(lab) == proven
