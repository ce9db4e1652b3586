"""Damaged slots of packs → the blocks of each point that need them. Pure.

One walk over a history, oldest to newest, carrying the damaged blocks of the image: a change adds
those it takes from damaged slots, and whatever it writes, zeroes or cuts off is whole again. So
a point is damaged where it needs a damaged slot, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import runs_of
from blocksnapd.store.runs import SLOT_MASK, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.maintain.history import Change
    from blocksnapd.model import U64
    from blocksnapd.store.runs import Runs

RANGES_MAX = 1000


class DamageWalk:
    """The damaged blocks of one image; ``lost`` has the damaged slots, ascending, by pack name."""

    def __init__(self, lost: Mapping[str, np.typing.NDArray[np.intp]]) -> None:
        self._lost = lost
        self.blocks: U64 = np.zeros(0, dtype=np.uint64)
        self._uses: dict[str, list[U64]] = {}

    def apply(self, change: Change) -> None:
        """Make the image the one after ``change``."""
        blocks = self.blocks[self.blocks < np.uint64(change.floor)]
        added: list[U64] = []
        for runs in change.windows():
            if len(blocks) and len(runs):
                at = np.searchsorted(runs.starts, blocks, side="right").astype(np.intp) - 1
                written = (at >= 0) & (blocks < runs.ends[np.maximum(at, 0)])
                blocks = blocks[~written]
            added += self._taken(change, runs)
        self.blocks = np.sort(np.concatenate([blocks, *added])) if added else blocks

    def uses(self, pack: str) -> tuple[U64, U64]:
        """Return (slots, blocks): each damaged slot of ``pack`` once for each block that had it."""
        found = self._uses.get(pack)
        if not found:
            none = np.zeros(0, dtype=np.uint64)
            return none, none
        pairs = np.unique(np.concatenate(found), axis=0)
        return pairs[:, 0], pairs[:, 1]

    def _taken(self, change: Change, runs: Runs) -> list[U64]:
        taken = []
        for place, part in change.by_pack(runs):
            lost = self._lost.get(place.ref.name)
            if lost is None:
                continue
            blocks, locations = expand(part)
            slots = locations & SLOT_MASK
            bad = np.isin(slots.astype(np.intp), lost)
            if bad.any():
                taken.append(blocks[bad])
                pairs = np.column_stack([slots[bad], blocks[bad]])
                self._uses.setdefault(place.ref.name, []).append(pairs)
        return taken


def byte_ranges(blocks: U64, *, block_size: int, size: int) -> list[tuple[int, int]]:
    """Return ascending ``blocks`` of an image as byte ranges ``(start, end)``."""
    starts, lengths = runs_of(blocks)
    return [
        (start * block_size, min((start + length) * block_size, size))
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
