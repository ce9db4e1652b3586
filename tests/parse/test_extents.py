"""Extents against a set of bytes' chunks, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.parse.extents import merge_chunks
from tests.fakes.cow_images import chunk_sizes

if TYPE_CHECKING:
    from blocksnapd.model import Extents


def slow_extents(chunks: list[int], chunk_size: int, origin_size: int) -> list[tuple[int, int]]:
    """Grow extents from a plain set, one chunk after the other."""
    merged: list[tuple[int, int]] = []
    for chunk in sorted(set(chunks)):
        start, end = chunk * chunk_size, min((chunk + 1) * chunk_size, origin_size)
        if merged and merged[-1][1] == start:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


def pairs(extents: Extents) -> list[tuple[int, int]]:
    assert extents.starts.dtype == extents.ends.dtype == np.uint64
    return list(zip(extents.starts.tolist(), extents.ends.tolist(), strict=True))


@given(
    chunk_sizes,
    st.one_of(st.just(0), st.integers(0, 1 << 43)),
    st.lists(st.integers(0, 30), max_size=60),
    st.integers(0, 1 << 19),
    st.integers(0, 3),
)
def test_same_as_the_slow_model(
    chunk_size: int, first: int, near: list[int], cut: int, room: int
) -> None:
    """Numbers close together, so that runs, repeats and gaps of one chunk are all drawn."""
    chunks = [first + n for n in near]
    end = (max(chunks, default=first) + 1) * chunk_size
    origin_size = end - cut % chunk_size + room * chunk_size
    given_chunks = np.array(chunks, dtype=np.uint64)
    before = given_chunks.copy()
    extents = merge_chunks(given_chunks, chunk_size=chunk_size, origin_size=origin_size)
    assert pairs(extents) == slow_extents(chunks, chunk_size, origin_size)
    assert np.array_equal(given_chunks, before)


def test_nothing_changed() -> None:
    extents = merge_chunks(np.empty(0, np.uint64), chunk_size=4096, origin_size=0)
    assert pairs(extents) == []
    assert extents.size == 0


def test_neighbours_melt_and_the_end_is_cut() -> None:
    chunks = np.array([9, 0, 2, 1, 2, 8], dtype=np.uint64)
    extents = merge_chunks(chunks, chunk_size=4096, origin_size=9 * 4096 + 512)
    assert pairs(extents) == [(0, 3 * 4096), (8 * 4096, 9 * 4096 + 512)]
    assert extents.size == 4 * 4096 + 512


def test_everything_changed_is_one_extent() -> None:
    chunks = np.random.default_rng(1).permutation(100_000).astype(np.uint64)
    extents = merge_chunks(chunks, chunk_size=65536, origin_size=100_000 * 65536)
    assert pairs(extents) == [(0, 100_000 * 65536)]


def test_largest_numbers_do_not_wrap() -> None:
    last = (1 << 52) - 1
    chunks = np.array([last], dtype=np.uint64)
    origin_size = (1 << 64) - 1
    extents = merge_chunks(chunks, chunk_size=4096, origin_size=origin_size)
    assert pairs(extents) == [(last * 4096, origin_size)]


@pytest.mark.parametrize("origin_size", [0, 5 * 4096 - 1, 5 * 4096])
def test_chunk_behind_the_origin_is_refused(origin_size: int) -> None:
    with pytest.raises(ValueError, match="chunk 5 of 4096 bytes is not within"):
        merge_chunks(np.array([1, 5], np.uint64), chunk_size=4096, origin_size=origin_size)
    merge_chunks(np.array([1, 5], np.uint64), chunk_size=4096, origin_size=5 * 4096 + 1)
