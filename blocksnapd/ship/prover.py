"""Every cycle proves the one before.

A snapshot's COW device holds the content that each changed chunk had at the snapshot's instant:
exactly what the repository must hold for the point of that instant. So the old content is hashed
and compared with the point's fingerprints. A mismatch means that change tracking, the
repository's bookkeeping or a disk lied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import runs_of
from blocksnapd.model import U64, Proof, SavedBatch
from blocksnapd.ship.shipper import identities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.ship.fingerprints import Fingerprints

RANGES_MAX = 16


class Prover:
    """Compares saved old content with the fingerprints of the point it belongs to. One thread."""

    def __init__(self, known: Fingerprints, *, size: int, hash_key: bytes) -> None:
        self._known = known
        self._size = size
        self._block_size = known.head.block_size
        self._hash_key = hash_key
        self._checked = 0
        self._wrong: list[U64] = []

    def prove(self, saved: Iterable[SavedBatch]) -> Proof:
        """Check all of ``saved``; chunks are at least a block.

        Raises:
            HostError: the COW device can't be read.
        """
        for batch in saved:
            self._check(batch)
        wrong = np.sort(np.concatenate(self._wrong)) if self._wrong else np.empty(0, np.uint64)
        firsts, counts = runs_of(wrong)
        ends = np.minimum((firsts + counts) * np.uint64(self._block_size), np.uint64(self._size))
        starts = firsts * np.uint64(self._block_size)
        ranges = zip(starts[:RANGES_MAX].tolist(), ends[:RANGES_MAX].tolist(), strict=True)
        return Proof(self._checked, len(wrong), tuple(ranges))

    def _check(self, batch: SavedBatch) -> None:
        per_chunk = batch.chunk_size // self._block_size
        within = np.arange(per_chunk, dtype=np.uint64)
        blocks = (batch.chunks[:, None] * np.uint64(per_chunk) + within).reshape(-1)
        self._blank_past_end(batch, blocks)
        inside = blocks < np.uint64(self._known.head.block_count)
        hashes = identities(batch.data, self._block_size, self._hash_key)
        wrong = inside & (hashes != self._known.get(blocks)).any(axis=1)
        self._checked += int(inside.sum())
        if wrong.any():
            self._wrong.append(blocks[wrong])

    def _blank_past_end(self, batch: SavedBatch, blocks: U64) -> None:
        # The kernel copies only what exists of a last partial chunk; past it lie leftovers.
        rest = self._size % self._block_size
        if not rest:
            return
        for at in np.flatnonzero(blocks == np.uint64(self._size // self._block_size)).tolist():
            end = (at + 1) * self._block_size
            batch.data[at * self._block_size + rest : end] = bytes(self._block_size - rest)
