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


class ContentSum:
    """Takes blocks in any order, each block at most once. One thread."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._total = 0

    def add(self, blocks: U64, data: memoryview) -> None:
        """Take blocks ``blocks``, shape (n,), with their ``n * block_size`` bytes."""
        self.add_sum(content_sum(blocks, data, self._block_size))

    def add_sum(self, part: int) -> None:
        """Take the ``content_sum`` of some blocks."""
        self._total = state_add(self._total, part, 0)

    def value(self) -> int:
        """Return the sum over all blocks taken so far."""
        return self._total


def content_sum(blocks: U64, data: memoryview, block_size: int) -> int:
    """Return the sum of blocks ``blocks``, shape (n,), with their ``n * block_size`` bytes."""
    present = nonzero_mask(data, block_size)
    digest = xxhash.xxh3_128_digest
    digests = b"".join(
        [
            digest(data[at : at + block_size])
            for at in (np.flatnonzero(present) * block_size).tolist()
        ]
    )
    hashes = np.frombuffer(digests, np.uint8).reshape(-1, HASH_SIZE)
    return state_sum(blocks[present], hashes)
