from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.blocks import runs_of
from blocksnapd.model import Extents
from blocksnapd.ship.spans import batches, runs_to_blocks, to_block_runs


@st.composite
def extents(draw: st.DrawFn) -> Extents:
    """Sorted, disjoint, not touching; drawn around block borders."""
    edge = st.integers(0, 400).flatmap(
        lambda k: st.sampled_from([k * 512, k * 4096, k * 4096 + 512])
    )
    points = sorted(draw(st.sets(edge, max_size=40)))
    points = points[: len(points) // 2 * 2]
    pairs = np.array(points, dtype=np.uint64).reshape(-1, 2)
    return Extents(pairs[:, 0], pairs[:, 1])


def model(ranges: Extents, block_size: int) -> list[int]:
    found: set[int] = set()
    for start, end in zip(ranges.starts.tolist(), ranges.ends.tolist(), strict=True):
        found |= set(range(start // block_size, -(-end // block_size)))
    return sorted(found)


@given(extents(), st.sampled_from([4096, 8192, 65536]))
def test_block_runs_are_the_blocks_touched(ranges: Extents, block_size: int) -> None:
    firsts, counts = to_block_runs(ranges, block_size)
    assert runs_to_blocks(firsts, counts).tolist() == model(ranges, block_size)
    assert (np.diff(firsts) > counts[:-1]).all()  # not touching


@given(extents(), st.sampled_from([4096, 65536]), st.integers(1, 50))
def test_batches_cover_the_same_blocks_within_their_limit(
    ranges: Extents, block_size: int, blocks_max: int
) -> None:
    found: list[int] = []
    for batch in batches(ranges, block_size, blocks_max):
        assert 0 < batch.block_count <= blocks_max
        assert (batch.counts > 0).all()
        found += batch.blocks().tolist()
    assert found == model(ranges, block_size)


@given(st.sets(st.integers(0, 200)))
def test_blocks_and_runs_are_the_same_thing(numbers: set[int]) -> None:
    blocks = np.array(sorted(numbers), dtype=np.uint64)
    assert runs_to_blocks(*runs_of(blocks)).tolist() == blocks.tolist()


def test_a_batch_costs_the_same_however_many_runs_there_are() -> None:
    """Cutting a batch must not convert the whole column: 10**8 runs would take hours."""
    few, many = (
        Extents(starts, starts + np.uint64(4096))
        for starts in (np.arange(n, dtype=np.uint64) * np.uint64(8192) for n in (10**3, 10**6))
    )
    assert _peak_of_next(many) < 2 * _peak_of_next(few) + 10**5


def _peak_of_next(ranges: Extents) -> int:
    """Return the most memory that cutting a second batch takes."""
    cutting = batches(ranges, 4096, 100)
    next(cutting)
    tracemalloc.start()
    try:
        next(cutting)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
