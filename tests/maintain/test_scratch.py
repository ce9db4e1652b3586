"""The notes of a walk: rows come back, holes stay zero, room is given back."""

from __future__ import annotations

import os

import numpy as np
import pytest

from blocksnapd.errors import HostError
from blocksnapd.maintain import scratch as module
from blocksnapd.maintain.scratch import Scratch


def rows(count: int, start: int = 1) -> np.ndarray:
    return (np.arange(count * 16, dtype=np.uint64) + start).astype(np.uint8).reshape(-1, 16) | 1


def numbers(*blocks: int) -> np.ndarray:
    return np.array(blocks, dtype=np.uint64)


@pytest.fixture
def scratch(tmp_path):
    with Scratch(str(tmp_path)) as made:
        yield made


def test_rows_come_back_whatever_grows_between(scratch):
    scratch.put(numbers(3, 900), rows(2))
    scratch.put(numbers(1 << 20), rows(1, 7))
    scratch.put(numbers(3), rows(1, 9))
    assert (scratch.get(numbers(3)) == rows(1, 9)).all()
    assert (scratch.get(numbers(900, 1 << 20)) == np.vstack([rows(2)[1:], rows(1, 7)])).all()
    assert not scratch.get(numbers(4, 1 << 40)).any()
    assert (scratch.piece(3, 5) == np.vstack([rows(1, 9), np.zeros((1, 16))])).all()


def test_it_is_sparse(scratch):
    scratch.put(numbers(1 << 30), rows(1))
    assert os.fstat(scratch._file.fileno()).st_blocks * 512 < 1 << 20
    scratch.clear(5, 1 << 29)
    assert os.fstat(scratch._file.fileno()).st_blocks * 512 < 1 << 20


def test_clearing(scratch):
    scratch.put(np.arange(100, dtype=np.uint64), rows(100))
    scratch.clear(10, 20)
    assert not scratch.get(np.arange(10, 20, dtype=np.uint64)).any()
    assert (scratch.get(numbers(9, 20)) == rows(100)[[9, 20]]).all()
    scratch.clear()
    assert len(scratch) == 0
    scratch.put(numbers(50), rows(1))
    assert not scratch.get(numbers(49, 51)).any()


def test_letting_pages_go_loses_nothing(scratch, monkeypatch):
    monkeypatch.setattr(module, "_TOUCHED_MAX", 10)
    for at in range(0, 1000, 7):
        scratch.put(numbers(at), rows(1, at))
    for at in range(0, 1000, 7):
        assert (scratch.get(numbers(at)) == rows(1, at)).all()


def test_without_room_it_says_so(scratch, tmp_path):
    with pytest.raises(HostError, match="temporary file"):
        scratch.put(numbers((1 << 64) - 2), rows(1))
    with pytest.raises(HostError, match="nowhere"):
        Scratch(str(tmp_path / "nowhere"))


def test_nothing_is_left_behind(tmp_path):
    with Scratch(str(tmp_path)) as made:
        made.put(numbers(5), rows(1))
        assert os.listdir(tmp_path) == []
        made.close()
