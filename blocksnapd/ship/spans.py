"""Extents cut into batches of whole blocks that fit a buffer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.model import U64, Extents


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Runs of blocks to read together: ``firsts[i]`` and the ``counts[i] - 1`` blocks after it."""

    firsts: U64
    counts: U64

    @property
    def block_count(self) -> int:
        """Blocks in all."""
        return int(self.counts.sum())

    def blocks(self) -> U64:
        """Return every block number, shape (block_count,), ascending."""
        return runs_to_blocks(self.firsts, self.counts)


def runs_to_blocks(firsts: U64, counts: U64) -> U64:
    """Return the block numbers that the runs cover, in order."""
    if len(firsts) == 1:
        return np.arange(firsts[0], firsts[0] + counts[0], dtype=np.uint64)
    total = int(counts.sum())
    before = np.cumsum(counts, dtype=np.uint64) - counts
    shift = np.repeat(firsts - before, counts.astype(np.intp))
    return shift + np.arange(total, dtype=np.uint64)


def to_block_runs(extents: Extents, block_size: int) -> tuple[U64, U64]:
    """Return the runs of blocks that ``extents`` touch, merged where rounding made them meet."""
    size = np.uint64(block_size)
    firsts = extents.starts // size
    lasts = (extents.ends + (size - np.uint64(1))) // size  # one past the last block
    if not len(firsts):
        return firsts, lasts
    apart = np.flatnonzero(firsts[1:] > lasts[:-1]) + 1
    begin = firsts[np.concatenate(([0], apart))]
    end = lasts[np.concatenate((apart - 1, [len(lasts) - 1]))]
    return begin, end - begin


def batches(extents: Extents, block_size: int, blocks_max: int) -> Iterator[Batch]:
    """Yield batches of at most ``blocks_max`` blocks that together cover ``extents``, in order."""
    firsts, counts = to_block_runs(extents, block_size)
    index, taken = 0, 0  # the next run, and how much of it earlier batches took
    ends = np.cumsum(counts, dtype=np.uint64)
    done = 0
    while index < len(firsts):
        # Of the column's own type: of any other, all of it would be converted for each batch.
        goal = np.uint64(done + blocks_max)
        stop = int(np.searchsorted(ends, goal, side="left"))
        stop = min(stop, len(firsts) - 1)
        batch_firsts = firsts[index : stop + 1].copy()
        batch_counts = counts[index : stop + 1].copy()
        batch_firsts[0] += np.uint64(taken)
        batch_counts[0] -= np.uint64(taken)
        over = max(0, int(batch_counts.sum()) - blocks_max)
        batch_counts[-1] -= np.uint64(over)
        done += int(batch_counts.sum())
        taken = int(counts[stop]) - over if over else 0
        index = stop if over else stop + 1
        yield Batch(batch_firsts, batch_counts)
