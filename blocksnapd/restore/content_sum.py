"""One number for the content of an image, the same in whatever order its blocks come. Pure.

The sum of ``blocks.state_sum`` over xxh3_128 of each block that is not all zero. Taken once over
what is written and once over what is read back, it shows in constant memory whether both are the
same image: every block at its place, once, and zero everywhere else. It guards against a target
that lost or changed something, not against an adversary: what is written was checked against its
keyed identity by whoever handed it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from blocksnapd.blocks import nonzero_mask, state_add, state_sum
from blocksnapd.model import HASH_SIZE

if TYPE_CHECKING:
    from blocksnapd.model import U64

_PENDING_BLOCKS_MAX = 65536


class ContentSum:
    """Takes blocks in any order, each block at most once."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._total = 0
        self._blocks: list[U64] = []
        self._digests: list[bytes] = []
        self._count = 0

    def add(self, blocks: U64, data: memoryview) -> None:
        """Take blocks ``blocks``, shape (n,), with their ``n * block_size`` bytes."""
        size = self._block_size
        present = nonzero_mask(data, size)
        digest = xxhash.xxh3_128_digest
        self._digests += [
            digest(data[at : at + size]) for at in (np.flatnonzero(present) * size).tolist()
        ]
        self._blocks.append(blocks[present])
        self._count += len(blocks)
        if self._count >= _PENDING_BLOCKS_MAX:
            self._fold()

    def value(self) -> int:
        """Return the sum over all blocks taken so far."""
        self._fold()
        return self._total

    def _fold(self) -> None:
        if self._digests:
            hashes = np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, HASH_SIZE)
            added = state_sum(np.concatenate(self._blocks), hashes)
            self._total = state_add(self._total, added, 0)
        self._blocks, self._digests, self._count = [], [], 0
