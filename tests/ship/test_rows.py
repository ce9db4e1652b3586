"""Rows in place and rows to come; damage is told, an empty disk too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import StateError
from blocksnapd.ship.rows import RowsUpdate, apply, has_size, read_pending

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 4


def rows_of(blocks: list[int], salt: int) -> np.ndarray:
    return np.array([[b % 251, b // 251 % 251, salt, 7] for b in blocks], dtype=np.uint8)


def update(path: Path, pending: Path | None, batches: list[list[int]], salt: int) -> None:
    rows = RowsUpdate(str(path), str(pending or ""), row_size=SIZE, count=100)
    for blocks in batches:
        rows.put(np.array(blocks, dtype=np.uint64), rows_of(blocks, salt).reshape(-1, SIZE))
    rows.seal()
    rows.close()


BATCHES = st.lists(st.lists(st.integers(0, 99), unique=True), max_size=4)


@settings(max_examples=30, deadline=None)
@given(BATCHES, BATCHES)
def test_new_rows_and_applied_ones_are_where_they_belong(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("rows")
    path, pending = folder / "data", folder / "pending"
    update(path, None, first, 1)
    update(path, pending, second, 2)
    for _ in range(2):
        apply(str(path), str(pending), row_size=SIZE, count=100)
    expected = np.zeros((100, SIZE), dtype=np.uint8)
    for salt, batches in ((1, first), (2, second)):
        for blocks in batches:
            expected[blocks] = rows_of(blocks, salt).reshape(-1, SIZE)
    assert path.read_bytes() == expected.tobytes()


def test_an_applied_update_resizes(tmp_path):
    update(tmp_path / "data", None, [[1, 99]], 1)
    update(tmp_path / "data", tmp_path / "p", [[2]], 2)
    apply(str(tmp_path / "data"), str(tmp_path / "p"), row_size=SIZE, count=50)
    assert has_size(str(tmp_path / "data"), 50 * SIZE)
    assert not has_size(str(tmp_path / "data"), 51 * SIZE)
    assert not has_size(str(tmp_path / "gone"), 0)


def test_every_flipped_or_missing_byte_of_a_pending_file_is_told(tmp_path):
    path = tmp_path / "p"
    update(tmp_path / "data", path, [[1, 2], [3]], 1)
    whole = path.read_bytes()
    ends = len(whole) - 24  # what follows the end mark is not read
    for at in range(ends + 4):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StateError):
            list(read_pending(str(path), SIZE))
    for at in range(ends + 4):
        path.write_bytes(whole[:at])
        with pytest.raises(StateError):
            list(read_pending(str(path), SIZE))
