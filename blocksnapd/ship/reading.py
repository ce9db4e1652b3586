"""Reads and hashes batches of blocks ahead of whoever ships them, in bounded memory. Edge.

Scattered blocks are read by several threads at once, since a disk answers many questions in the
time of one; another thread hashes. Both are a few batches ahead of the caller: the disk and all
processors are kept at work, whoever of them is slowest. Buffers are page-aligned, for direct I/O,
and used in turn.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blocksnapd.runtime.buffers import buffers
from blocksnapd.ship.spans import Batch
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from blocksnapd.model import U8
    from blocksnapd.ports import BlockReader

BATCH_SIZE = 4 * MIB
BUFFERS = 4
READERS = 8


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
) -> Generator[HashedBatch, None, None]:
    """Yield each batch with its blocks' bytes and identities; the bytes' memory is used again.

    The last block of a reader whose size is no multiple of ``block_size`` is padded with zeros.
    Memory: ``BUFFERS`` times ``BATCH_SIZE``. Close it to be sure that nothing is read any more.

    Raises:
        HostError: the device failed.
    """
    views = buffers(BUFFERS, BATCH_SIZE)
    ahead: deque[tuple[Batch, memoryview, Future[U8]]] = deque()
    with (
        ThreadPoolExecutor(READERS, "blocksnap-read") as disk,
        ThreadPoolExecutor(1, "blocksnap-hash") as processor,
    ):
        for index, batch in enumerate(batches):
            if len(ahead) == BUFFERS - 1:  # one buffer is the caller's until its next step
                yield _next(ahead)
            view = views[index % BUFFERS][: batch.block_count * block_size]
            reading = [
                disk.submit(read_batch, reader, part, view[low:high], block_size)
                for part, low, high in _parts(batch, block_size)
            ]
            ahead.append((batch, view, processor.submit(_identify, identify, view, reading)))
        while ahead:
            yield _next(ahead)


def read_batch(reader: BlockReader, batch: Batch, view: memoryview, block_size: int) -> None:
    """Fill ``view`` with the batch's blocks, run by run."""
    at = 0
    for first, count in zip(batch.firsts.tolist(), batch.counts.tolist(), strict=True):
        length = count * block_size
        _read_run(reader, first * block_size, view[at : at + length])
        at += length


def _parts(batch: Batch, block_size: int) -> Iterator[tuple[Batch, int, int]]:
    """Yield shares of about as many runs for each reader, and where their bytes belong."""
    runs = len(batch.firsts)
    readers = min(READERS, runs)
    ends = np.cumsum(batch.counts, dtype=np.uint64).tolist()
    cuts = [runs * share // readers for share in range(readers + 1)]
    low = 0
    for start, stop in itertools.pairwise(cuts):
        high = ends[stop - 1] * block_size
        yield Batch(batch.firsts[start:stop], batch.counts[start:stop]), low, high
        low = high


def _identify(
    identify: Callable[[memoryview], U8], view: memoryview, reading: list[Future[None]]
) -> U8:
    for part in reading:
        part.result()
    return identify(view)


def _next(ahead: deque[tuple[Batch, memoryview, Future[U8]]]) -> HashedBatch:
    batch, view, hashing = ahead.popleft()
    return HashedBatch(batch, view, hashing.result())


def _read_run(reader: BlockReader, offset: int, view: memoryview) -> None:
    inside = min(len(view), reader.size - offset)
    reader.read_into(offset, view[:inside])
    if inside < len(view):
        view[inside:] = bytes(len(view) - inside)
