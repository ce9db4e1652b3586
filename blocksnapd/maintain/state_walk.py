"""Following the state sum of an image from point to point, at the cost of what changed. Edge.

Each point commits to the sum over all its blocks. Here the sum is made anew out of layers and
packs alone: a layer that lost, doubled or exchanged an entry has another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import state_add, state_sum
from blocksnapd.maintain.scratch import SLICE
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.store.runs import SLOT_MASK, ZERO, expand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.maintain.history import Change
    from blocksnapd.maintain.scratch import Scratch
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.runs import Runs

# What stands where a pack's table is lost: no keyed hash is this, but for one in 2**128.
UNKNOWN = np.full(HASH_SIZE, 0xFF, dtype=np.uint8)


class StateWalk:
    """The sum of one image and the identities it is made of. One thread.

    Args:
        scratch: holds the identities, empty at first.
        identities: gives those of slots of a pack; None: its table cannot be read.
    """

    def __init__(
        self,
        scratch: Scratch,
        identities: Callable[[PackPlace, np.typing.NDArray[np.intp]], U8 | None],
    ) -> None:
        self._scratch, self._identities = scratch, identities
        self._sum = self._unknown = 0

    @property
    def state_sum(self) -> int | None:
        """The sum of the image as it is now; None while blocks of it have unknown identities."""
        return None if self._unknown else self._sum

    def apply(self, change: Change) -> None:
        """Make the image the one after ``change``.

        Raises:
            HostError: the scratch has no room.
        """
        if change.floor == 0:
            self._scratch.clear()
            self._sum = self._unknown = 0
        else:
            self._clear(change.floor, len(self._scratch))
        for runs in change.windows():
            zeros = runs.take(runs.locations == ZERO)
            for start, end in zip(zeros.starts.tolist(), zeros.ends.tolist(), strict=True):
                self._clear(start, min(end, len(self._scratch)))
            for blocks, identities in self._content(change, runs):
                self._replace(blocks, identities)

    def sum_under(self, change: Change) -> int | None:
        """Return the sum of what ``change`` would replace; None: unknown identities are among it.

        Nothing is changed.
        """
        total = 0
        spans = [(change.floor, len(self._scratch))]
        for runs in change.windows():
            below = runs.cut(0, change.floor)
            spans += zip(below.starts.tolist(), below.ends.tolist(), strict=True)
            for first, end in spans:
                for at in range(first, min(end, len(self._scratch)), SLICE):
                    upto = min(at + SLICE, end, len(self._scratch))
                    rows = self._scratch.piece(at, upto)
                    if (rows == UNKNOWN).all(axis=1).any():
                        return None
                    part = state_sum(np.arange(at, upto, dtype=np.uint64), rows)
                    total = state_add(total, part, 0)
            spans = []
        return total

    def sum_of(self, change: Change) -> int | None:
        """Return the sum of the content of ``change``; None: a table of it cannot be read."""
        total = 0
        for runs in change.windows():
            for blocks, identities in self._content(change, runs):
                if (identities == UNKNOWN).all(axis=1).any():
                    return None
                total = state_add(total, state_sum(blocks, identities), 0)
        return total

    def _content(self, change: Change, runs: Runs) -> Iterator[tuple[U64, U8]]:
        for place, part in change.by_pack(runs):
            blocks, locations = expand(part)
            order = np.argsort(blocks)
            slots = (locations[order] & SLOT_MASK).astype(np.intp)
            found = self._identities(place, slots)
            if found is None:
                found = np.tile(UNKNOWN, (len(slots), 1))
            yield blocks[order], np.ascontiguousarray(found)

    def _clear(self, first: int, end: int) -> None:
        for at in range(first, end, SLICE):
            upto = min(at + SLICE, end)
            rows = self._scratch.piece(at, upto)
            self._count(np.arange(at, upto, dtype=np.uint64), rows, removed=True)
        if first < end:
            self._scratch.clear(first, end)

    def _replace(self, blocks: U64, identities: U8) -> None:
        self._count(blocks, self._scratch.get(blocks), removed=True)
        self._count(blocks, identities, removed=False)
        self._scratch.put(blocks, identities)

    def _count(self, blocks: U64, identities: U8, *, removed: bool) -> None:
        unknown = (identities == UNKNOWN).all(axis=1)
        known = ~unknown
        total = state_sum(blocks[known], identities[known])
        self._unknown += int(unknown.sum()) * (-1 if removed else 1)
        added, gone = (0, total) if removed else (total, 0)
        self._sum = state_add(self._sum, added, gone)
