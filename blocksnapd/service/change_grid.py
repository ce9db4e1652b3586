"""How many blocks of each region some runs cover. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blocksnapd.model import U64
    from blocksnapd.store.runs import Runs


@dataclass(frozen=True, slots=True)
class Grid:
    """An image of ``blocks`` blocks cut into at most ``regions_max`` regions of equal size."""

    blocks: int
    regions_max: int

    @property
    def region_blocks(self) -> int:
        """Blocks of a region; the last one may have fewer."""
        return max(1, -(-self.blocks // self.regions_max))

    @property
    def regions(self) -> int:
        """How many there are."""
        return -(-self.blocks // self.region_blocks)

    def covered(self, runs: Runs) -> U64:
        """Return the blocks of each region that ``runs``, ascending and disjoint, cover.

        Shape (regions,). What lies beyond the image counts nowhere. Cost: one search a region.
        """
        edges = np.arange(self.regions + 1, dtype=np.uint64) * np.uint64(self.region_blocks)
        edges[-1] = self.blocks
        if not len(runs):
            return np.zeros(self.regions, dtype=np.uint64)
        before = np.zeros(len(runs) + 1, dtype=np.uint64)
        np.cumsum(runs.lengths, out=before[1:])
        # The run that an edge lies in or behind, and how much of that run lies before the edge.
        at = np.searchsorted(runs.starts, edges, side="right")
        run = np.maximum(at, 1) - 1
        within = np.minimum(edges - np.minimum(edges, runs.starts[run]), runs.lengths[run])
        covered: U64 = np.diff(before[run] + within)
        return covered
