"""Tables of runs as bytes. Pure.

See FORMAT.md § 5. ``read_table`` takes any value a decoder may give and either returns runs
that ascend and are disjoint or raises a documented error, in memory bounded by ``count_runs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.columns import pack_column, unpack_column, unzigzag, zigzag
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs, is_ascending, join

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.model import U64

RUNS_PER_PART_MAX = 65536
_ONE = np.uint64(1)


class RunsPart(msgspec.Struct, omit_defaults=True):
    """One map *Runs* of FORMAT.md § 5."""

    n: int
    first: int
    gaps: bytes
    lengths: bytes
    locations: bytes = b""


class TableWriter:
    """Takes runs piece by piece and keeps them packed: 2-3 bytes for a scattered block."""

    def __init__(self, *, located: bool) -> None:
        self.parts: list[RunsPart] = []
        self._located = located
        self._waiting: list[Runs] = []
        self._count = 0

    def add(self, runs: Runs) -> None:
        """Take runs that lie above all earlier ones."""
        if not len(runs):
            return
        self._waiting.append(runs)
        self._count += len(runs)
        if self._count >= RUNS_PER_PART_MAX:
            self._flush()

    def finish(self) -> list[RunsPart]:
        """Return the table."""
        self._flush()
        return self.parts

    def _flush(self) -> None:
        runs, self._waiting, self._count = join(self._waiting), [], 0
        for at in range(0, len(runs), RUNS_PER_PART_MAX):
            part = slice(at, at + RUNS_PER_PART_MAX)
            piece = Runs(runs.starts[part], runs.lengths[part], runs.locations[part])
            self.parts.append(pack_part(piece, located=self._located))


def pack_part(runs: Runs, *, located: bool) -> RunsPart:
    """Return 1 to ``RUNS_PER_PART_MAX`` runs as one part."""
    gaps = np.zeros(len(runs), dtype=np.uint64)
    gaps[1:] = runs.starts[1:] - runs.ends[:-1]
    moves = b""
    if located:
        expected = np.zeros(len(runs), dtype=np.uint64)
        expected[1:] = runs.locations[:-1] + runs.lengths[:-1]
        moves = pack_column(zigzag(runs.locations - expected))
    return RunsPart(
        n=len(runs),
        first=int(runs.starts[0]),
        gaps=pack_column(gaps),
        lengths=pack_column(runs.lengths - _ONE),
        locations=moves,
    )


def pack_table(runs: Runs, *, located: bool) -> list[RunsPart]:
    """Return any number of runs as a table."""
    writer = TableWriter(located=located)
    writer.add(runs)
    return writer.finish()


def unpack_part(part: RunsPart, *, located: bool) -> Runs:
    """Return the runs of one part; locations are ``ZERO`` where the table has none.

    Raises:
        RepositoryFormatError: they are not ascending, disjoint runs below 2**64.
    """
    if not 1 <= part.n <= RUNS_PER_PART_MAX or not 0 <= part.first < 1 << 64:
        raise RepositoryFormatError(f"a table of runs has {part.n} runs from {part.first}")
    lengths = unpack_column(part.lengths, part.n) + _ONE
    gaps = unpack_column(part.gaps, part.n)
    starts = gaps.copy()
    starts[0] = part.first
    starts[1:] += lengths[:-1]
    starts = np.cumsum(starts, dtype=np.uint64)
    if gaps[0] or not is_ascending(starts, lengths):
        raise RepositoryFormatError("the runs of a table do not ascend")
    if not located:
        return Runs.zeros(starts, lengths)
    return Runs(starts, lengths, _locations(unpack_column(part.locations, part.n), lengths))


def count_runs(parts: Iterable[RunsPart]) -> int:
    """Return how many runs a table claims: a few bytes may claim millions, so ask before."""
    return sum(max(part.n, 0) for part in parts)


def read_table(parts: list[RunsPart], *, located: bool) -> Runs:
    """Return all runs of a table.

    Raises:
        RepositoryFormatError: they are not ascending, disjoint runs below 2**64.
    """
    runs = join([unpack_part(part, located=located) for part in parts])
    if not is_ascending(runs.starts, runs.lengths):
        raise RepositoryFormatError("the parts of a table do not ascend")
    return runs


def check_locations(runs: Runs, slots: U64) -> None:
    """Make sure that each run lies within its pack; ``slots[i]`` is how many pack ``i`` has.

    Raises:
        RepositoryFormatError: a run points outside.
    """
    packs, firsts = runs.locations >> SLOT_BITS, runs.locations & SLOT_MASK
    known = packs < len(slots)
    if not known.all() or (runs.lengths > slots[packs] - np.minimum(firsts, slots[packs])).any():
        raise RepositoryFormatError("a layer points outside its packs")


def _locations(moves: U64, lengths: U64) -> U64:
    steps = unzigzag(moves)
    steps[1:] += lengths[:-1]
    locations = np.cumsum(steps, dtype=np.uint64)
    if (locations == ZERO).any():
        raise RepositoryFormatError("a layer points at no place")
    return locations
