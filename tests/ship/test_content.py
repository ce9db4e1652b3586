"""Hints: lossy, never believed."""

from __future__ import annotations

import os
import resource

import numpy as np
import pytest

from blocksnapd.ship import content
from blocksnapd.ship.content import Hints, add_hints, has_hints, hint_count, make_hints

COUNT = 5000


def identities(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64)


def found(path: str, hashes: np.ndarray) -> dict[int, int]:
    which, blocks = Hints(path, COUNT).get(hashes)
    return dict(zip(which.tolist(), blocks.tolist(), strict=True))


@pytest.mark.parametrize("many", [1, 64, 1 << 20])
@pytest.mark.parametrize("waiting", [100, 1 << 19])
def test_most_content_is_found_and_hints_say_where(tmp_path, monkeypatch, many, waiting):
    """Written one by one or by segments, a few at a time or all at once."""
    monkeypatch.setattr(content, "_MANY", many)
    monkeypatch.setattr(content, "_WAITING_MAX", waiting)
    monkeypatch.setattr(content, "_SEGMENT", 512)
    path, rows = str(tmp_path / "hints"), identities(COUNT)
    make_hints(path, COUNT, [(numbers(COUNT)[at : at + 70], rows[at : at + 70])
                             for at in range(0, COUNT, 70)])  # fmt: skip
    assert has_hints(path, COUNT)
    assert os.listdir(tmp_path) == ["hints"]
    hints = found(path, rows)
    right = sum(hints.get(block) == block for block in range(COUNT))
    assert right > COUNT * 0.75
    assert len(found(path, identities(COUNT, 2))) < 10  # others have none, but for chance


def test_a_later_hint_takes_the_place_of_an_earlier(tmp_path):
    path, rows = str(tmp_path / "hints"), identities(3)
    make_hints(path, COUNT, [(numbers(3), rows)])
    add_hints(path, COUNT, [(numbers(3) + np.uint64(40), rows[:3])])
    assert found(path, rows) == {0: 40, 1: 41, 2: 42}


def test_zeros_and_nothing_leave_no_hint(tmp_path):
    path = str(tmp_path / "hints")
    make_hints(
        path, COUNT, [(numbers(4), np.zeros((4, 16), np.uint8)), (numbers(0), identities(0))]
    )
    assert not np.fromfile(path, dtype="<u8").any()


def test_the_table_has_room_for_twice_the_blocks_up_to_a_limit():
    assert [hint_count(n) for n in (1, 2048, 2049, 1 << 19, 1 << 40)] == [
        4096, 4096, 8192, 1 << 20, 1 << 24,
    ]  # fmt: skip
    assert not has_hints("/nonexistent/hints", 5)


def test_no_room_is_no_error(tmp_path):
    path, rows = str(tmp_path / "hints"), identities(COUNT)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))
    try:
        make_hints(path, COUNT, [(numbers(COUNT), rows)])
        assert not has_hints(path, COUNT)
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        make_hints(path, COUNT, [])
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))
        add_hints(path, COUNT, [(numbers(COUNT), rows)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert has_hints(path, COUNT)
