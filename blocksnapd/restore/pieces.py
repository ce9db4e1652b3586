"""Pieces of content on their way to a target: neighbouring blocks in one write. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocksnapd.blocks import neighbours

if TYPE_CHECKING:
    from blocksnapd.model import U64


class Writable(Protocol):
    """What bytes can be put to."""

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``."""


def write_piece(
    target: Writable, blocks: U64, data: memoryview, *, block_size: int, end: int
) -> int:
    """Write the content of ``blocks``, back to back in ``data``; nothing behind byte ``end``.

    Return how many bytes that were.
    """
    written = 0
    for first, last in neighbours(blocks):
        offset = int(blocks[first]) * block_size
        run = data[first * block_size : last * block_size][: end - offset]
        target.write(offset, run)
        written += len(run)
    return written
