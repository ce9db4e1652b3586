"""Reading the content that runs point to, pack by pack, in threads. Edge (threads).

After a month of random writes the blocks of an image lie scattered over thousands of packs. Here
each pack is read once for all the blocks wanted of it, in the order its frames lie.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from blocksnapd.blocks import distinct
from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.frames import FRAME_SIZE_MAX
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, Runs, expand
from blocksnapd.store.seal import TAG_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from blocksnapd.model import U64
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore

T = TypeVar("T")

PIECE_SIZE = 1 << 20
_PACKS_AHEAD = 4
_GAP_SIZE_MAX = 128 << 10  # reading over a gap is cheaper than another request


class _Job(NamedTuple):
    # Frames ``first`` to ``end`` of a pack hold ``blocks`` in ``slots``, ascending by slot.
    reader: PackReader
    first: int
    end: int
    blocks: U64
    slots: U64


class _Room(NamedTuple):
    # Memory for one piece, and for what is on its way there; used again and again.
    piece: memoryview
    scratch: memoryview

    @classmethod
    def make(cls) -> _Room:
        return cls(
            np.empty(max(PIECE_SIZE, FRAME_SIZE_MAX), dtype=np.uint8).data,
            np.empty(FRAME_SIZE_MAX + TAG_SIZE, dtype=np.uint8).data,
        )


def each_piece(
    runs: Runs,
    places: Sequence[PackPlace],
    store: ObjectStore,
    key: RestoreKey,
    work: Callable[[U64, memoryview], T],
) -> Generator[T, None, None]:
    """Yield what ``work`` returns for each piece of the content of ``runs``.

    Memory: 16 bytes per block of a pack, and a few pieces and packs' indexes. Close the iterator
    to be sure that ``work`` is not called any more.

    Args:
        runs: content only, no zeros; locations count in ``places``.
        places: where the packs are.
        store: what holds them.
        key: what opens them.
        work: is called with block numbers and their bytes, each block checked, once in all;
            in several threads. The bytes are its own until what it returns was yielded and the
            next is asked for.

    Raises:
        ChecksumError, RepositoryFormatError: a pack is damaged. StoreError: the place failed.
    """
    count = os.cpu_count() or 1
    rooms = deque(_Room.make() for _ in range(count + 2))
    running: deque[tuple[_Room, Future[T]]] = deque()
    workers = ThreadPoolExecutor(count, thread_name_prefix="open")
    try:
        for job in _jobs(runs, lambda pack: PackReader(store, places[pack], key), workers):
            if not rooms:
                room, done = running.popleft()
                yield done.result()
                rooms.append(room)
            room = rooms.popleft()
            running.append((room, workers.submit(_do, job, room, work)))
        while running:
            yield running.popleft()[1].result()
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
    runs: Runs, open_pack: Callable[[int], PackReader], workers: ThreadPoolExecutor
) -> Iterator[_Job]:
    # Packs are opened ahead: each costs a read and two keys before its first frame can be read.
    ahead: deque[tuple[Runs, Future[PackReader]]] = deque()
    for pack, wanted in by_pack(runs):
        ahead.append((wanted, workers.submit(open_pack, pack)))
        if len(ahead) > _PACKS_AHEAD:
            yield from _split(*ahead.popleft())
    while ahead:
        yield from _split(*ahead.popleft())


def _split(wanted: Runs, opening: Future[PackReader]) -> Iterator[_Job]:
    # Cut the wanted slots of a pack into jobs of at most a piece, and where a gap is wide.
    reader = opening.result()
    blocks, locations = expand(wanted)
    slots = locations & SLOT_MASK
    order = np.argsort(slots, kind="stable")
    blocks, slots = blocks[order], slots[order]
    if int(slots[-1]) >= reader.index.slots:
        raise RepositoryFormatError(f"{reader.place.ref.name} has no slot {slots[-1]}")
    each = reader.slots_per_frame
    frames = (slots // np.uint64(each)).astype(np.intp)
    needed = distinct(frames)
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


def _do(job: _Job, room: _Room, work: Callable[[U64, memoryview], T]) -> T:
    return work(job.blocks, _open(job, room))


def _open(job: _Job, room: _Room) -> memoryview:
    reader, size = job.reader, job.reader.index.block_size
    sealed = reader.read(job.first, job.end)
    slots = job.slots.astype(np.intp)
    needed, starts = np.unique(slots // reader.slots_per_frame, return_index=True)
    ends = [*starts[1:].tolist(), len(slots)]
    at = 0
    for frame, low, high in zip(needed.tolist(), starts.tolist(), ends, strict=True):
        wanted = slots[low:high] - frame * reader.slots_per_frame
        view = room.piece[at : at + len(wanted) * size]
        at += len(view)
        if len(view) == reader.index.frame_size(frame) and (np.diff(wanted) == 1).all():
            reader.open_frame_into(frame, sealed, job.first, view, room.scratch)
        else:
            plain = reader.open_frame(frame, sealed, job.first)
            rows = np.frombuffer(plain, dtype=np.uint8).reshape(-1, size)
            out = np.frombuffer(view, dtype=np.uint8).reshape(-1, size)
            rows.take(wanted, axis=0, out=out, mode="clip")
    reader.check(slots, room.piece[:at])
    return room.piece[:at]
