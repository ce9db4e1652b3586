"""Chunk numbers to extents: what changed, as sorted byte ranges of the origin. Pure."""

from __future__ import annotations

import numpy as np

from blocksnapd.model import U64, Extents


def merge_chunks(chunks: U64, *, chunk_size: int, origin_size: int) -> Extents:
    """Return the extents that ``chunks`` cover: sorted, disjoint, not touching.

    Works on a sorted copy: for a moment it needs up to 48 bytes of memory per chunk number.

    Args:
        chunks: Origin chunk numbers in any order; repeats allowed. Not changed.
        chunk_size: Bytes per chunk.
        origin_size: Bytes of the origin; the last extent is cut here.

    Raises:
        ValueError: a chunk that begins at or behind the origin's end.
    """
    if len(chunks) == 0:
        return Extents(np.empty(0, np.uint64), np.empty(0, np.uint64))
    ordered = np.sort(chunks)
    last = int(ordered[-1])
    if last * chunk_size >= origin_size:
        raise ValueError(f"chunk {last} of {chunk_size} bytes is not within {origin_size} bytes")
    # A run breaks where the next number is neither a repeat (+0) nor the neighbour (+1).
    breaks = np.flatnonzero(np.diff(ordered) > 1)
    starts = ordered[np.concatenate(([0], breaks + 1))]
    ends = ordered[np.concatenate((breaks, [len(ordered) - 1]))]
    starts *= np.uint64(chunk_size)
    ends *= np.uint64(chunk_size)
    ends += np.uint64(chunk_size)
    ends[-1] = min((last + 1) * chunk_size, origin_size)
    return Extents(starts, ends)
