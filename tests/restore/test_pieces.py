"""Pieces of content: each byte once, in its place, neighbours at once, cut at the end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.restore.pieces import write_piece

SIZE = 8
BLOCKS = 12


class Noted:
    """Notes what is written."""

    def __init__(self) -> None:
        self.image = bytearray(BLOCKS * SIZE)
        self.writes: list[tuple[int, int]] = []

    def write(self, offset: int, data: memoryview) -> None:
        self.writes.append((offset, len(data)))
        self.image[offset : offset + len(data)] = data


@given(st.lists(st.integers(0, BLOCKS - 1), unique=True), st.integers(1, SIZE))
def test_each_block_goes_to_its_place_and_nothing_behind_the_end(blocks, last):
    target, end = Noted(), (BLOCKS - 1) * SIZE + last
    content = {block: bytes([block + 1]) * SIZE for block in blocks}
    data = memoryview(b"".join(content.values()))
    written = write_piece(target, np.array(blocks, dtype=np.uint64), data, block_size=SIZE, end=end)
    wanted = b"".join(content.get(block, bytes(SIZE)) for block in range(BLOCKS))[:end]
    assert bytes(target.image[:end]) == wanted
    assert not any(target.image[end:])
    assert written == sum(size for _, size in target.writes) <= end


def test_neighbours_are_one_write():
    target = Noted()
    blocks = np.array([7, 8, 9, 2, 3, 5], dtype=np.uint64)
    write_piece(target, blocks, memoryview(bytes(6 * SIZE)), block_size=SIZE, end=BLOCKS * SIZE)
    assert target.writes == [(7 * SIZE, 3 * SIZE), (2 * SIZE, 2 * SIZE), (5 * SIZE, SIZE)]
