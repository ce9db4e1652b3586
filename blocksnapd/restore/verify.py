"""Reads a target back and compares it with what was written. Edge.

The first pass takes one sum over everything the disk gives back (``content_sum``), in constant
memory and at the disk's speed. Only when it is wrong a second pass asks the image again, piece by
piece, to say where.
"""

from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blocksnapd.restore.content_sum import ContentSum
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP_SIZE = 4 * MIB
DIFFERENCES_MAX = 8


class Readable(Protocol):
    """A point's image, or what became of it on a target."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``; any alignment."""


def read_sum(
    reader: Readable,
    ranges: list[tuple[int, int]],
    block_size: int,
    advance: Callable[[int], None],
) -> int:
    """Return the content sum of what ``reader`` holds; blocks outside ``ranges`` are zero.

    The next step is read while the last one is hashed.

    Args:
        reader: What to read; its last block may be a partial one.
        ranges: Byte ranges, ascending and disjoint; widened to whole blocks here.
        block_size: Bytes per block, divides ``STEP_SIZE``.
        advance: Called with bytes read; may raise, to stop.

    Raises:
        HostError: reading failed.
    """
    total = ContentSum(block_size)
    buffers = [memoryview(mmap.mmap(-1, STEP_SIZE)) for _ in range(2)]
    with ThreadPoolExecutor(1, "blocksnap-verify") as pool:
        ahead = None
        for index, (start, end) in enumerate(_steps(ranges, reader.size, block_size)):
            reading = pool.submit(_read, reader, start, end, buffers[index % 2], block_size)
            if ahead is not None:
                _take(total, ahead[0], ahead[1].result(), block_size)
                advance(ahead[2])
            ahead = start // block_size, reading, end - start
        if ahead is not None:
            _take(total, ahead[0], ahead[1].result(), block_size)
            advance(ahead[2])
    return total.value()


def differences(image: Readable, reader: Readable) -> list[tuple[int, int]]:
    """Return at most the first few byte ranges where the two differ, of at most 4 MiB each.

    Raises:
        HostError, ChecksumError, RepositoryFormatError: one of the two cannot be read.
    """
    found: list[tuple[int, int]] = []
    ours, theirs = (memoryview(mmap.mmap(-1, STEP_SIZE)) for _ in range(2))
    for start in range(0, image.size, STEP_SIZE):
        length = min(STEP_SIZE, image.size - start)
        image.read_into(start, ours[:length])
        reader.read_into(start, theirs[:length])
        differing = np.frombuffer(ours[:length], np.uint8) != np.frombuffer(
            theirs[:length], np.uint8
        )
        if differing.any():
            at = np.flatnonzero(differing)
            found.append((start + int(at[0]), start + int(at[-1]) + 1))
            if len(found) == DIFFERENCES_MAX:
                break
    return found


def _steps(ranges: list[tuple[int, int]], size: int, block_size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges in whole blocks and pieces of at most one step, no block twice."""
    done = 0
    for start, end in ranges:
        at = max(start // block_size * block_size, done)
        done = min(-(-end // block_size) * block_size, size)
        while at < done:
            stop = min(at + STEP_SIZE, done)
            yield at, stop
            at = stop


def _read(
    reader: Readable, start: int, end: int, buffer: memoryview, block_size: int
) -> memoryview:
    length = end - start
    reader.read_into(start, buffer[:length])
    whole = -(-length // block_size) * block_size
    buffer[length:whole] = bytes(whole - length)
    return buffer[:whole]


def _take(total: ContentSum, first: int, data: memoryview, block_size: int) -> None:
    blocks = np.arange(first, first + len(data) // block_size, dtype=np.uint64)
    total.add(blocks, data)
