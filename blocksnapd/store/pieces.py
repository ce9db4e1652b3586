"""Reading the content that runs point to, pack by pack, in threads. Edge (threads).

After a month of random writes the blocks of an image lie scattered over thousands of packs. Here
each pack is read once for all the blocks wanted of it, in the order its frames lie.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, Runs, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.model import U8, U64
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore

PIECE_SIZE = 1 << 20
_GAP_SIZE_MAX = 128 << 10  # reading over a gap is cheaper than another request


class _Job(NamedTuple):
    # Frames ``first`` to ``end`` of a pack hold ``blocks`` in ``slots``, ascending by slot.
    reader: PackReader
    first: int
    end: int
    blocks: U64
    slots: U64


def pieces(
    runs: Runs, places: Sequence[PackPlace], store: ObjectStore, key: RestoreKey
) -> Iterator[tuple[U64, memoryview]]:
    """Yield the content of ``runs`` as (block numbers, their bytes), each block checked, once.

    Memory: 16 bytes per block of one pack, and a few pieces; what a piece lies in is used again
    after the next step.

    Args:
        runs: content only, no zeros; locations count in ``places``.
        places: where the packs are.
        store: what holds them.
        key: what opens them.

    Raises:
        ChecksumError, RepositoryFormatError: a pack is damaged. StoreError: the place failed.
    """
    count = os.cpu_count() or 1
    free: SimpleQueue[U8] = SimpleQueue()
    for _ in range(count + 3):
        free.put(np.empty(PIECE_SIZE, dtype=np.uint8))
    running: deque[tuple[_Job, U8, Future[memoryview]]] = deque()
    workers = ThreadPoolExecutor(count, thread_name_prefix="open")
    try:
        for job in _jobs(runs, places, store, key):
            if len(running) == count + 2:
                yield from _finish(running, free)
            buffer = free.get()
            running.append((job, buffer, workers.submit(_open, job, buffer)))
        while running:
            yield from _finish(running, free)
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


def by_pack(runs: Runs) -> Iterator[tuple[int, Runs]]:
    """Yield each pack that content ``runs`` point into, and those runs in the order of slots."""
    ordered = runs.take(np.argsort(runs.locations, kind="stable"))
    packs = ordered.locations >> SLOT_BITS
    edges = np.flatnonzero(np.diff(packs)) + 1
    for part in np.split(np.arange(len(ordered)), edges):
        if len(part):
            yield int(packs[part[0]]), ordered.take(part)


def _jobs(
    runs: Runs, places: Sequence[PackPlace], store: ObjectStore, key: RestoreKey
) -> Iterator[_Job]:
    for pack, wanted in by_pack(runs):
        blocks, locations = expand(wanted)
        yield from _split(PackReader(store, places[pack], key), blocks, locations & SLOT_MASK)


def _split(reader: PackReader, blocks: U64, slots: U64) -> Iterator[_Job]:
    # Cut the wanted slots of a pack into jobs of at most a piece, and where a gap is wide.
    order = np.argsort(slots, kind="stable")
    blocks, slots = blocks[order], slots[order]
    each = reader.slots_per_frame
    frames = (slots // np.uint64(each)).astype(np.intp)
    needed = np.unique(frames)
    offsets = reader.index.offsets
    gaps = offsets[needed[1:]] - offsets[needed[:-1] + 1]
    bounds = np.append(np.searchsorted(frames, needed), len(slots))
    first, size = 0, reader.index.block_size
    per_job, blocks_max = max(1, PIECE_SIZE // (each * size)), PIECE_SIZE // size
    while first < len(needed):
        end = first + 1
        while (
            end < len(needed)
            and end - first < per_job
            and gaps[end - 1] <= _GAP_SIZE_MAX
            and bounds[end + 1] - bounds[first] <= blocks_max
        ):
            end += 1
        # One frame may hold what many blocks of the image have in common.
        low, high = int(bounds[first]), int(bounds[end])
        for at in range(low, high, blocks_max):
            span = slice(at, min(at + blocks_max, high))
            yield _Job(
                reader, int(needed[first]), int(needed[end - 1]) + 1, blocks[span], slots[span]
            )
        first = end


def _open(job: _Job, buffer: U8) -> memoryview:
    reader, size = job.reader, job.reader.index.block_size
    sealed = reader.read(job.first, job.end)
    slots = job.slots.astype(np.intp)
    needed, starts = np.unique(slots // reader.slots_per_frame, return_index=True)
    ends = [*starts[1:].tolist(), len(slots)]
    view, at = buffer.data, 0
    for frame, low, high in zip(needed.tolist(), starts.tolist(), ends, strict=True):
        plain = memoryview(reader.open_frame(frame, sealed, job.first))
        wanted = slots[low:high] - frame * reader.slots_per_frame
        end = at + len(wanted) * size
        view[at:end] = _rows(plain, wanted, size)
        at = end
    reader.check(slots, view[:at])
    return view[:at]


def _rows(plain: memoryview, wanted: np.typing.NDArray[np.intp], size: int) -> memoryview:
    # The blocks ``wanted`` of a frame; without a copy when it is all of them.
    if len(wanted) * size == len(plain) and (np.diff(wanted) == 1).all():
        return plain
    rows = np.frombuffer(plain, dtype=np.uint8).reshape(-1, size)
    return np.ascontiguousarray(rows[wanted]).reshape(-1).data


def _finish(
    running: deque[tuple[_Job, U8, Future[memoryview]]], free: SimpleQueue[U8]
) -> Iterator[tuple[U64, memoryview]]:
    job, buffer, done = running.popleft()
    yield job.blocks, done.result()
    free.put(buffer)
