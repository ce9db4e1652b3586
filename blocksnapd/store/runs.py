"""Runs of blocks: the sorted map from block numbers to places, and layering one over another. Pure.

A run says that the blocks ``start … start+length-1`` lie at ``location`` and the slots after it,
or that they are zero. A location is ``pack << 32 | slot``. Memory goes with the number of runs,
never with the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        low = int(np.searchsorted(self.starts, np.uint64(first), side="right"))
        high = int(np.searchsorted(self.starts, np.uint64(end), side="left"))
        if low and int(self.starts[low - 1]) + int(self.lengths[low - 1]) > first:
            low -= 1
        if low >= high or first >= end:
            return Runs.empty()
        starts, lengths, locations = (
            column[low:high].copy() for column in (self.starts, self.lengths, self.locations)
        )
        if before := max(0, first - int(starts[0])):
            starts[0] += np.uint64(before)
            lengths[0] -= np.uint64(before)
            if locations[0] != ZERO:
                locations[0] += np.uint64(before)
        lengths[-1] = min(int(lengths[-1]), end - int(starts[-1]))
        return Runs(starts, lengths, locations)


def is_ascending(starts: U64, lengths: U64) -> bool:
    """Return whether the runs are not empty, ascend, are disjoint and end below 2**64."""
    ends = starts + lengths
    return bool((ends > starts).all() and (starts[1:] >= ends[:-1]).all())


def join(parts: list[Runs]) -> Runs:
    """Return runs that follow one another as one."""
    if len(parts) < 2:
        return parts[0] if parts else Runs.empty()
    return Runs(
        np.concatenate([p.starts for p in parts]),
        np.concatenate([p.lengths for p in parts]),
        np.concatenate([p.locations for p in parts]),
    )


def interleave(one: Runs, other: Runs) -> Runs:
    """Return both as one, sorted. The result ascends only if they do not overlap."""
    if not len(one) or not len(other):
        return one if len(one) else other
    both = join([one, other])
    order = np.argsort(both.starts, kind="stable")
    return both.take(order)


def overlay(older: Runs, newer: Runs) -> Runs:
    """Return ``newer`` over ``older``: where the newer says nothing, the older holds."""
    return overlay_all([newer, older])[0]


def overlay_all(newest_first: Sequence[Runs]) -> tuple[Runs, Runs]:
    """Return what all say together, and what is hidden: of each block the first of them counts.

    What is hidden comes in no order and may overlap. Together both hold every entry given,
    perhaps cut into several runs. Cost: one merge of sorted runs, more only where runs of several
    overlap without being the same blocks.
    """
    given = [runs for runs in newest_first if len(runs)]
    if len(given) < 2:
        return (given[0] if given else Runs.empty()), Runs.empty()
    every = join(given)
    order = np.argsort(every.starts, kind="stable")  # newest first among equals; fast on runs
    every = every.take(order)
    again = np.zeros(len(every), dtype=np.bool_)
    again[1:] = (every.starts[1:] == every.starts[:-1]) & (every.lengths[1:] == every.lengths[:-1])
    hidden = []
    if again.any():
        hidden.append(every.take(again))
        every, order = every.take(~again), order[~again]
    contested = _contested(every)
    if contested.any():
        bounds = np.cumsum([len(runs) for runs in given])
        ranks = np.searchsorted(bounds, order[contested], side="right")
        settled, lost = _settle(every.take(contested), ranks)
        hidden.append(lost)
        every = interleave(every.take(~contested), settled)
    return _coalesce(every), join(hidden)


def split(older: Runs, newer: Runs) -> tuple[Runs, Runs]:
    """Return the parts of ``older`` that ``newer`` leaves visible, and those it hides.

    Cost: a sort of all edges of both.
    """
    if not len(older) or not len(newer):
        return older, Runs.empty()
    edges = distinct(np.concatenate([older.starts, older.ends, newer.starts, newer.ends]))
    starts, lengths = edges[:-1], np.diff(edges)
    present, locations = look_up(older, starts)
    hides, _ = look_up(newer, starts)
    pieces = Runs(starts, lengths, locations)
    return pieces.take(present & ~hides), pieces.take(present & hides)


def expand(runs: Runs) -> tuple[U64, U64]:
    """Return the block numbers of content runs and the location of each, in order of the runs.

    Memory: 16 bytes per block; cut the runs first.
    """
    lengths = runs.lengths.astype(np.intp)
    heads = np.cumsum(lengths) - lengths
    within = (np.arange(int(lengths.sum())) - np.repeat(heads, lengths)).astype(np.uint64)
    return np.repeat(runs.starts, lengths) + within, np.repeat(runs.locations, lengths) + within


def look_up(runs: Runs, blocks: U64) -> tuple[np.typing.NDArray[np.bool_], U64]:
    """Return whether each of ``blocks`` lies in ``runs``, and at which location, if so."""
    if not len(runs):
        return np.zeros(len(blocks), dtype=np.bool_), np.full(len(blocks), ZERO)
    at = np.searchsorted(runs.starts, blocks, side="right") - 1
    safe = np.maximum(at, 0)
    inside = (at >= 0) & (blocks < runs.ends[safe])
    locations = runs.locations[safe].copy()
    moved = locations != ZERO
    locations[moved] += (blocks - runs.starts[safe])[moved]
    return inside, locations


def _contested(runs: Runs) -> np.typing.NDArray[np.bool_]:
    # Which of ``runs``, sorted by start, share a block with another one.
    reach = np.maximum.accumulate(runs.ends)
    touched = np.zeros(len(runs) + 1, dtype=np.bool_)
    touched[1:-1] = runs.starts[1:] < reach[:-1]
    return touched[:-1] | touched[1:]


def _settle(runs: Runs, ranks: np.typing.NDArray[np.intp]) -> tuple[Runs, Runs]:
    # As ``overlay_all``, of runs that do overlap. Neighbours are merged pairwise, so that each
    # run is moved log2(ranks) times, not once for each newer layer.
    order = np.argsort(ranks, kind="stable")
    heads = np.flatnonzero(np.diff(ranks[order])) + 1
    level = [runs.take(part) for part in np.split(order, heads)]
    hidden = []
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = []
        for newer, *rest in pairs:
            for older in rest:
                kept, lost = split(older, newer)
                hidden.append(lost)
                newer = interleave(kept, newer)
            level.append(newer)
    return level[0], join(hidden)


def _coalesce(runs: Runs) -> Runs:
    # Join neighbours that continue each other, so that overlaying again and again stays small.
    touching = np.flatnonzero(runs.starts[1:] == runs.ends[:-1])
    before, after = runs.locations[touching], runs.locations[touching + 1]
    both_zero = (before == ZERO) & (after == ZERO)
    follows = (before != ZERO) & (after != ZERO) & (after == before + runs.lengths[touching])
    joined = touching[both_zero | follows]
    if not len(joined):
        return runs
    is_head = np.ones(len(runs), dtype=np.bool_)
    is_head[joined + 1] = False
    heads = np.flatnonzero(is_head)
    starts = runs.starts[heads]
    last = np.append(heads[1:], len(runs)) - 1
    return Runs(starts, runs.ends[last] - starts, runs.locations[heads])
