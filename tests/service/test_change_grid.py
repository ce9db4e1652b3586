"""Covered blocks of each region, against counting them one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.service.change_grid import Grid
from blocksnapd.store.runs import Runs


@given(
    blocks=st.integers(1, 90),
    regions=st.integers(1, 20),
    gaps=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=12),
)
def test_each_block_counts_once_and_in_its_region(
    blocks: int, regions: int, gaps: list[tuple[int, int]]
) -> None:
    starts, lengths, at = [], [], 0
    for gap, length in gaps:
        starts.append(at + gap)
        lengths.append(length)
        at += gap + length
    pairs = np.array(starts, np.uint64), np.array(lengths, np.uint64)
    grid = Grid(blocks, regions)
    wanted = [0] * grid.regions
    for start, length in zip(starts, lengths, strict=True):
        for block in range(start, start + length):
            if block < blocks:
                wanted[block // grid.region_blocks] += 1
    assert grid.covered(Runs.zeros(*pairs)).tolist() == wanted
    assert grid.regions <= regions
    assert (grid.regions - 1) * grid.region_blocks < blocks <= grid.regions * grid.region_blocks


def test_an_empty_image_has_no_regions() -> None:
    assert Grid(0, 8).regions == 0


def test_the_largest_image_there_is() -> None:
    blocks = (1 << 63) // 4096
    grid = Grid(blocks, 1024)
    whole = Runs.zeros(np.array([0], np.uint64), np.array([blocks], np.uint64))
    assert int(grid.covered(whole).sum()) == blocks
