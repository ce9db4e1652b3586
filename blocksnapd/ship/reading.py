"""Reads batches of blocks ahead of whoever works on them, in bounded memory. Edge.

One thread reads the next batch while the caller hashes and ships the last one: the disk and the
processor are both kept at work. Buffers are page-aligned, for direct I/O, and used in turn.
"""

from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocksnapd.ports import BlockReader
    from blocksnapd.ship.spans import Batch

BATCH_SIZE = 4 * MIB
_BUFFERS = 2


def read_ahead(
    reader: BlockReader, batches: Iterable[Batch], block_size: int
) -> Iterator[tuple[Batch, memoryview]]:
    """Yield each batch with its blocks' bytes; the memory is used again two steps later.

    The last block of a reader whose size is no multiple of ``block_size`` is padded with zeros.

    Raises:
        HostError: the device failed.
    """
    buffers = [memoryview(mmap.mmap(-1, BATCH_SIZE)) for _ in range(_BUFFERS)]
    with ThreadPoolExecutor(1, "blocksnap-read") as pool:
        ahead = None
        for index, batch in enumerate(batches):
            view = buffers[index % _BUFFERS][: batch.block_count * block_size]
            reading = pool.submit(read_batch, reader, batch, view, block_size)
            if ahead is not None:
                yield ahead[0], ahead[1].result()
            ahead = batch, reading
        if ahead is not None:
            yield ahead[0], ahead[1].result()


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
