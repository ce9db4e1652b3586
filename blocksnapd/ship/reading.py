"""Reads and hashes batches of blocks ahead of whoever ships them, in bounded memory. Edge.

One thread reads and one hashes, a few batches ahead of the caller: the disk and all processors are
kept at work, whoever of them is slowest. Buffers are page-aligned, for direct I/O, used in turn.
"""

from __future__ import annotations

import mmap
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocksnapd.model import U8
    from blocksnapd.ports import BlockReader
    from blocksnapd.ship.spans import Batch

BATCH_SIZE = 4 * MIB
BUFFERS = 4


class HashedBatch(NamedTuple):
    """Blocks, their bytes, and the identity of each, shape (n, 16)."""

    batch: Batch
    data: memoryview
    hashes: U8


def read_ahead(
    reader: BlockReader,
    batches: Iterable[Batch],
    block_size: int,
    identify: Callable[[memoryview], U8],
) -> Iterator[HashedBatch]:
    """Yield each batch with its blocks' bytes and identities; the bytes' memory is used again.

    The last block of a reader whose size is no multiple of ``block_size`` is padded with zeros.
    Memory: ``BUFFERS`` times ``BATCH_SIZE``.

    Raises:
        HostError: the device failed.
    """
    buffers = [memoryview(mmap.mmap(-1, BATCH_SIZE)) for _ in range(BUFFERS)]
    ahead: deque[tuple[Batch, Future[memoryview], Future[U8]]] = deque()
    with ExitStack() as ending:
        disk = ending.enter_context(ThreadPoolExecutor(1, "blocksnap-read"))
        processor = ending.enter_context(ThreadPoolExecutor(1, "blocksnap-hash"))
        for index, batch in enumerate(batches):
            if len(ahead) == BUFFERS - 1:  # one buffer is the caller's until its next step
                yield _next(ahead)
            view = buffers[index % BUFFERS][: batch.block_count * block_size]
            reading = disk.submit(read_batch, reader, batch, view, block_size)
            hashing = processor.submit(_identify, identify, reading)
            ahead.append((batch, reading, hashing))
        while ahead:
            yield _next(ahead)


def _identify(identify: Callable[[memoryview], U8], reading: Future[memoryview]) -> U8:
    return identify(reading.result())


def _next(ahead: deque[tuple[Batch, Future[memoryview], Future[U8]]]) -> HashedBatch:
    batch, reading, hashing = ahead.popleft()
    return HashedBatch(batch, reading.result(), hashing.result())


def read_batch(reader: BlockReader, batch: Batch, view: memoryview, block_size: int) -> memoryview:
    """Fill ``view`` with the batch's blocks, run by run; return it."""
    at = 0
    for first, count in zip(batch.firsts.tolist(), batch.counts.tolist(), strict=True):
        length = count * block_size
        _read_run(reader, first * block_size, view[at : at + length])
        at += length
    return view


def _read_run(reader: BlockReader, offset: int, view: memoryview) -> None:
    inside = min(len(view), reader.size - offset)
    reader.read_into(offset, view[:inside])
    if inside < len(view):
        view[inside:] = bytes(len(view) - inside)
