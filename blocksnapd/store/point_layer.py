"""The layer of a point in the making: which block lies where. Pure.

While a session lasts, locations count in its own packs, or in those that the source knows of
earlier points (``model.KNOWN_PACK``). In the finished layer all count in one list: known packs
first, then the session's own, since the last of these may lie in the point itself.
"""

from __future__ import annotations

import numpy as np

from blocksnapd.model import KNOWN_PACK, PACK_NUMBER_MASK, U64
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, Runs
from blocksnapd.store.tables import RunsPart, TableWriter, pack_part, unpack_part


class PointLayer:
    """Takes blocks with content, ascending; keeps a few bytes per run."""

    def __init__(self) -> None:
        self._table = TableWriter(located=True)
        self._last: Runs = Runs.empty()

    def add(self, blocks: U64, locations: U64) -> None:
        """Note that ``blocks``, ascending and above all earlier ones, lie at ``locations``."""
        runs = _runs_of(blocks, locations)
        if _continues(self._last, runs):
            runs.starts[0] = self._last.starts[0]
            runs.lengths[0] += self._last.lengths[0]
            runs.locations[0] = self._last.locations[0]
        else:
            self._table.add(self._last)
        self._table.add(_part(runs, 0, -1))
        self._last = _part(runs, -1, None)

    def finish(self, known: list[int]) -> list[RunsPart]:
        """Return the table, whose locations count in the packs ``known`` and then in the own.

        Args:
            known: numbers of all known packs that were given, ascending.
        """
        self._table.add(self._last)
        self._last = Runs.empty()
        parts = self._table.finish()
        if known:
            numbers = np.array(known, dtype=np.uint64)
            parts = [_renumbered(part, numbers) for part in parts]
        return parts


def _runs_of(blocks: U64, locations: U64) -> Runs:
    breaks = (blocks[1:] - blocks[:-1] != 1) | (locations[1:] - locations[:-1] != 1)
    bounds = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(blocks)]])
    heads, lengths = bounds[:-1], (bounds[1:] - bounds[:-1]).astype(np.uint64)
    return Runs(blocks[heads], lengths, locations[heads])


def _continues(last: Runs, runs: Runs) -> bool:
    return (
        len(last) > 0
        and bool(last.ends[0] == runs.starts[0])
        and bool(last.locations[0] + last.lengths[0] == runs.locations[0])
    )


def _part(runs: Runs, first: int, end: int | None) -> Runs:
    span = slice(first, end)
    return Runs(runs.starts[span], runs.lengths[span], runs.locations[span])


def _renumbered(part: RunsPart, known: U64) -> RunsPart:
    runs = unpack_part(part, located=True)
    packs = runs.locations >> SLOT_BITS
    is_known = runs.locations >= KNOWN_PACK
    packs[is_known] = np.searchsorted(known, packs[is_known] & PACK_NUMBER_MASK)
    packs[~is_known] += np.uint64(len(known))
    locations = (packs << SLOT_BITS) | (runs.locations & SLOT_MASK)
    return pack_part(Runs(runs.starts, runs.lengths, locations), located=True)
