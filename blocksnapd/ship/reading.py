"""Reads batches of blocks ahead of whoever ships them, in bounded memory. Edge.

Scattered blocks are read by several threads at once, since a disk answers many questions in the
time of one. They are a few batches ahead of the caller, so that the disk is kept at work. Buffers
are page-aligned, for direct I/O, and used in turn.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from blocksnapd.runtime.buffers import buffers
from blocksnapd.ship.spans import Batch
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from blocksnapd.ports import BlockReader

_T = TypeVar("_T")

BATCH_SIZE = 4 * MIB
BUFFERS = 4
READERS = 8


class ReadBatch(NamedTuple):
    """Blocks and their bytes."""

    batch: Batch
    data: memoryview


def read_ahead(
    reader: BlockReader, batches: Iterable[Batch], block_size: int
) -> Generator[ReadBatch, None, None]:
    """Yield each batch with its blocks' bytes, whose memory is used again.

    The last block of a reader whose size is no multiple of ``block_size`` is padded with zeros.
    Memory: ``BUFFERS`` times ``BATCH_SIZE``. Close it to be sure that nothing is read any more.

    Raises:
        HostError: the device failed.
    """
    views = buffers(BUFFERS, BATCH_SIZE)
    ahead: deque[tuple[ReadBatch, list[Future[None]]]] = deque()
    with ThreadPoolExecutor(READERS, "blocksnap-read") as disk:
        for index, batch in enumerate(batches):
            if len(ahead) == BUFFERS - 1:  # one buffer is the caller's until its next step
                yield _next(ahead)
            view = views[index % BUFFERS][: batch.block_count * block_size]
            reading = [
                disk.submit(read_batch, reader, part, view[low:high], block_size)
                for part, low, high in _parts(batch, block_size)
            ]
            ahead.append((ReadBatch(batch, view), reading))
        while ahead:
            yield _next(ahead)


def one_ahead(read: Iterator[_T]) -> Generator[_T, None, None]:
    """Yield what ``read`` yields, while a thread has it read the next. Close it as ``read_ahead``.

    Raises what ``read`` raises.
    """
    with ThreadPoolExecutor(1, "blocksnap-ahead") as thread:
        coming = thread.submit(next, read, None)
        while (found := coming.result()) is not None:
            coming = thread.submit(next, read, None)
            yield found


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


def _next(ahead: deque[tuple[ReadBatch, list[Future[None]]]]) -> ReadBatch:
    found, reading = ahead.popleft()
    for part in reading:
        part.result()
    return found


def _read_run(reader: BlockReader, offset: int, view: memoryview) -> None:
    inside = min(len(view), reader.size - offset)
    reader.read_into(offset, view[:inside])
    if inside < len(view):
        view[inside:] = bytes(len(view) - inside)
