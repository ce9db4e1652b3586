"""Runs of blocks: the sorted map from block numbers to places, and layering one over another. Pure.

A run says that the blocks ``start … start+length-1`` lie at ``location`` and the slots after it,
or that they are zero. A location is ``pack << 32 | slot``. Memory goes with the number of runs,
never with the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blocksnapd.model import U64

ZERO = np.uint64(0xFFFF_FFFF_FFFF_FFFF)  # the location of zeros
SLOT_BITS = np.uint64(32)
SLOT_MASK = np.uint64(0xFFFF_FFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """``n`` runs, ascending and disjoint; each array has shape (n,)."""

    starts: U64
    lengths: U64
    locations: U64

    @classmethod
    def empty(cls) -> Runs:
        """Return no runs."""
        none = np.zeros(0, dtype=np.uint64)
        return cls(none, none, none)

    @classmethod
    def zeros(cls, starts: U64, lengths: U64) -> Runs:
        """Return runs that are all zero."""
        return cls(starts, lengths, np.full(len(starts), ZERO, dtype=np.uint64))

    @property
    def ends(self) -> U64:
        """The block after each run."""
        return self.starts + self.lengths

    @property
    def blocks(self) -> int:
        """Blocks in all runs."""
        return int(self.lengths.sum(dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, which: np.typing.NDArray[np.bool_] | np.typing.NDArray[np.intp]) -> Runs:
        """Return the runs that ``which``, a mask or sorted positions, selects."""
        return Runs(self.starts[which], self.lengths[which], self.locations[which])

    def content(self) -> Runs:
        """Return the runs that are not zeros."""
        return self.take(self.locations != ZERO)

    def cut(self, first: int, end: int) -> Runs:
        """Return what lies in the blocks ``first`` up to but without ``end``."""
        low = int(np.searchsorted(self.ends, np.uint64(first), side="right"))
        high = int(np.searchsorted(self.starts, np.uint64(end), side="left"))
        if low >= high:
            return Runs.empty()
        starts = self.starts[low:high].copy()
        ends = self.ends[low:high]
        locations = self.locations[low:high].copy()
        if starts[0] < first:
            if locations[0] != ZERO:
                locations[0] += np.uint64(first) - starts[0]
            starts[0] = first
        ends[-1] = min(int(ends[-1]), end)
        return Runs(starts, ends - starts, locations)


def is_ascending(starts: U64, lengths: U64) -> bool:
    """Return whether the runs are not empty, ascend, are disjoint and end below 2**64."""
    ends = starts + lengths
    return bool((ends > starts).all() and (starts[1:] >= ends[:-1]).all())


def runs_of(blocks: U64) -> tuple[U64, U64]:
    """Return starts and lengths of the runs that ``blocks``, ascending, make up."""
    if not len(blocks):
        return blocks, blocks
    heads = np.flatnonzero(np.diff(blocks, prepend=blocks[0]) != 1)  # the first differs by 0
    lengths = np.diff(heads, append=len(blocks)).astype(np.uint64)
    return blocks[heads], lengths


def join(parts: list[Runs]) -> Runs:
    """Return runs that follow one another as one."""
    if not parts:
        return Runs.empty()
    return Runs(
        np.concatenate([p.starts for p in parts]),
        np.concatenate([p.lengths for p in parts]),
        np.concatenate([p.locations for p in parts]),
    )


def interleave(one: Runs, other: Runs) -> Runs:
    """Return both as one, sorted. The result ascends only if they do not overlap."""
    both = join([one, other])
    order = np.argsort(both.starts, kind="stable")
    return both.take(order)


def overlay(older: Runs, newer: Runs) -> Runs:
    """Return ``newer`` over ``older``: where the newer says nothing, the older holds.

    Cost: a sort of all edges of both.
    """
    if not len(newer):
        return older
    if not len(older):
        return newer
    edges = np.unique(np.concatenate([older.starts, older.ends, newer.starts, newer.ends]))
    starts, ends = edges[:-1], edges[1:]
    present, locations = _look_up(older, starts)
    is_new, new_locations = _look_up(newer, starts)
    locations[is_new] = new_locations[is_new]
    present |= is_new
    starts, ends, locations = starts[present], ends[present], locations[present]
    return _coalesce(Runs(starts, ends - starts, locations))


def expand(runs: Runs) -> tuple[U64, U64]:
    """Return the block numbers of content runs and the location of each, in order of the runs.

    Memory: 16 bytes per block; cut the runs first.
    """
    lengths = runs.lengths.astype(np.intp)
    heads = np.cumsum(lengths) - lengths
    within = (np.arange(int(lengths.sum())) - np.repeat(heads, lengths)).astype(np.uint64)
    return np.repeat(runs.starts, lengths) + within, np.repeat(runs.locations, lengths) + within


def _look_up(runs: Runs, blocks: U64) -> tuple[np.typing.NDArray[np.bool_], U64]:
    # Where each of ``blocks`` lies in ``runs``: whether at all, and the location.
    at = np.searchsorted(runs.starts, blocks, side="right") - 1
    safe = np.maximum(at, 0)
    inside = (at >= 0) & (blocks < runs.ends[safe])
    locations = runs.locations[safe].copy()
    moved = locations != ZERO
    locations[moved] += (blocks - runs.starts[safe])[moved]
    return inside, locations


def _coalesce(runs: Runs) -> Runs:
    # Join neighbours that continue each other, so that overlaying again and again stays small.
    if len(runs) < 2:
        return runs
    touches = runs.starts[1:] == runs.ends[:-1]
    before, after = runs.locations[:-1], runs.locations[1:]
    both_zero = (before == ZERO) & (after == ZERO)
    follows = (before != ZERO) & (after != ZERO) & (after == before + runs.lengths[:-1])
    heads = np.flatnonzero(np.concatenate([[True], ~(touches & (both_zero | follows))]))
    starts = runs.starts[heads]
    last = np.append(heads[1:], len(runs)) - 1
    return Runs(starts, runs.ends[last] - starts, runs.locations[heads])
