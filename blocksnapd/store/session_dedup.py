"""Content that is in the repository already: found again instead of stored again. Pure.

Two places are looked at: what this session has put, in a table of fixed size, and what the source
remembers of the newest point (``ports.KnownContent``). Each answer rests on the whole identity;
what the table forgot is stored once more, which costs room and nothing else.

A long stretch of one content (a disk filled with FF) would be a run of the layer for each block.
So a stripe of such blocks is stored, which compresses well, and the stretch refers to all of it
again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import distinct
from blocksnapd.model import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import U8, U64
    from blocksnapd.ports import KnownContent

TABLE_BITS_MAX = 21  # 48 MiB, reached after 1 GiB of different blocks of 4 KiB
_CLAIM_BITS = 16
_STRIPE = 128  # blocks
_STRIPES_MAX = 4096
_CLAIM_MASK = np.uint64((1 << _CLAIM_BITS) - 1)


class SessionDedup:
    """Tells where blocks lie, and has those stored that lie nowhere yet. One thread."""

    def __init__(self, known: KnownContent | None, *, bits_max: int = TABLE_BITS_MAX) -> None:
        assert bits_max >= _CLAIM_BITS
        self._known = known
        # The table is the first ``_size`` entries; pages that nothing touched take no memory.
        self._identities = np.zeros((1 << bits_max, 2), dtype=np.uint64)
        self._identities[0] = NOWHERE  # so that no entry that was never used equals any identity
        self._locations = np.zeros(1 << bits_max, dtype=np.uint64)
        self._size = 1 << _CLAIM_BITS  # rows of one entry share a claim, so it is never less
        self._used = 0
        self._claims = np.zeros(1 << _CLAIM_BITS, dtype=np.int32)
        self._stripes: dict[bytes, U64] = {}  # where the blocks of each lie

    def place(self, hashes: U8, store: Callable[[np.typing.NDArray[np.intp]], U64]) -> U64:
        """Return the location of each block, shape (n,).

        Args:
            hashes: their identities, shape (n, 16); none of zeros.
            store: puts the blocks at the positions it is given and returns their locations.
        """
        lanes = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2)
        locations, stretches = self._find(lanes), _stretches(lanes)
        if len(self._stripes) >= _STRIPES_MAX:
            self._stripes.clear()  # not later: what is there now is not stored below
        for start, end in stretches:
            locations[start:end] = 0  # for now: neither to be found nor to be stored
        missing = np.flatnonzero(locations == NOWHERE)
        if self._known is not None and len(missing):
            locations[missing] = self._known.find(hashes[missing])
            missing = missing[locations[missing] == NOWHERE]
        leaders, winners = self._lead(lanes[missing])
        stored = missing[leaders == np.arange(len(missing))]
        for start, _ in stretches:
            if lanes[start].tobytes() not in self._stripes:
                stripe = np.arange(start, start + _STRIPE)
                stored = distinct(np.concatenate([stored, stripe]))
        if len(stored):
            locations[stored] = store(stored)
        locations[missing] = locations[missing[leaders]]
        kept = missing[winners]
        self._keep(lanes[kept], locations[kept])
        for start, end in stretches:
            locations[start:end] = self._striped(lanes[start].tobytes(), locations[start:end])
        return locations

    def _striped(self, identity: bytes, locations: U64) -> U64:
        # The first of the locations are those of a new stripe, if there is none yet.
        stripe = self._stripes.setdefault(identity, locations[:_STRIPE].copy())
        return np.resize(stripe, len(locations))

    def _find(self, lanes: U64) -> U64:
        at = self._entries(lanes)
        same = _equal(self._identities.take(at, axis=0), lanes)
        locations = np.full(len(lanes), NOWHERE)
        if same.any():
            locations[same] = self._locations.take(at[same])
        return locations

    def _keep(self, lanes: U64, locations: U64) -> None:
        # No two of these share an entry: an identity beside another's location would be a lie.
        self._used += len(lanes)
        while self._used * 4 > self._size < len(self._locations):
            self._grow()
        at = self._entries(lanes)
        whole = np.dtype("V16")  # twice as fast as two columns
        self._identities.view(whole).reshape(-1)[at] = lanes.view(whole).reshape(-1)
        self._locations[at] = locations

    def _grow(self) -> None:
        # Each entry is in both halves then; that it is where nobody looks for it harms nothing.
        old, new = slice(self._size), slice(self._size, 2 * self._size)
        self._identities[new] = self._identities[old]
        self._locations[new] = self._locations[old]
        self._size *= 2

    def _entries(self, lanes: U64) -> np.typing.NDArray[np.int64]:
        return (lanes[:, 0] & np.uint64(self._size - 1)).view(np.int64)

    def _lead(self, lanes: U64) -> tuple[np.typing.NDArray[np.int32], np.typing.NDArray[np.bool_]]:
        # For each row the row of the same identity that stands for it, mostly itself; and the
        # rows that won a claim, no two of which share one.
        rows = np.arange(len(lanes), dtype=np.int32)
        claims = (lanes[:, 0] & _CLAIM_MASK).view(np.int64)
        self._claims[claims[::-1]] = rows[::-1]
        claimed = self._claims.take(claims)
        winners = claimed == rows
        if winners.all():
            return rows, winners
        return np.where(_equal(lanes[claimed], lanes), claimed, rows), winners


def _stretches(lanes: U64) -> list[tuple[int, int]]:
    # Where the same identity follows itself for a stripe or longer: (first row, row after it).
    if len(lanes) < _STRIPE or not (lanes[1:, 0] == lanes[:-1, 0]).any():
        return []
    heads = np.flatnonzero(~_equal(lanes[1:], lanes[:-1])) + 1
    bounds = np.concatenate([[0], heads, [len(lanes)]])
    long = np.flatnonzero(np.diff(bounds) >= _STRIPE)
    return list(zip(bounds[long].tolist(), bounds[long + 1].tolist(), strict=True))


def _equal(some: U64, others: U64) -> np.typing.NDArray[np.bool_]:
    same: np.typing.NDArray[np.bool_] = (some[:, 0] == others[:, 0]) & (some[:, 1] == others[:, 1])
    return same
