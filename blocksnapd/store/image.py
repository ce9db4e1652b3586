"""A restore point seen as a disk: a ``ports.PointImage``. Edge (threads).

Reading everything goes pack by pack, not block by block: after a month of random writes the
blocks of an image lie scattered over thousands of packs, each of which is then read once.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blocksnapd.model import U8, U64, Extents
from blocksnapd.store.frames import FRAME_SIZE, frame_blocks
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, Runs, expand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.model import RestorePoint
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import PointMap

PIECE_SIZE = 1 << 20
PACKS_CACHED_MAX = 32
FRAMES_CACHED_MAX = 256
_GAP_SIZE_MAX = 128 << 10  # reading over a gap is cheaper than another request


class _Job(NamedTuple):
    # Frames ``first`` to ``end`` of a pack hold ``blocks`` in ``slots``, ascending by slot.
    reader: PackReader
    first: int
    end: int
    blocks: U64
    slots: U64


class Image:
    """See ``ports.PointImage``. Thread-safe."""

    def __init__(
        self, store: ObjectStore, key: RestoreKey, point: RestorePoint, mapped: PointMap
    ) -> None:
        self._store, self._key, self._point = store, key, point
        self._runs, self._places = mapped.runs, mapped.places
        self._packs: OrderedDict[int, PackReader] = OrderedDict()
        self._frames: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self._point.facts.size

    @property
    def block_size(self) -> int:
        """Bytes per block."""
        return self._point.facts.block_size

    @property
    def point(self) -> RestorePoint:
        """The point it shows."""
        return self._point

    def data_extents(self) -> Extents:
        """Return where the image has content; everything else is zero."""
        starts, ends = self._runs.starts, self._runs.ends
        apart = starts[1:] != ends[:-1]
        size = np.uint64(self.block_size)
        firsts = starts[np.concatenate([[True], apart])] if len(starts) else starts
        lasts = ends[np.concatenate([apart, [True]])] if len(ends) else ends
        return Extents(firsts * size, np.minimum(lasts * size, np.uint64(self.size)))

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the image's bytes from ``offset``; see ``ports.PointImage``."""
        view = view.cast("B")
        assert 0 <= offset <= offset + len(view) <= self.size
        view[:] = bytes(len(view))
        size = self.block_size
        runs = self._runs.cut(offset // size, -(-(offset + len(view)) // size))
        for start, length, location in zip(
            runs.starts.tolist(), runs.lengths.tolist(), runs.locations.tolist(), strict=True
        ):
            self._read_run(start * size - offset, length, location, view)

    def pieces(self) -> Iterator[tuple[U64, memoryview]]:
        """Yield all content pack by pack; see ``ports.PointImage``."""
        count = os.cpu_count() or 1
        free: SimpleQueue[U8] = SimpleQueue()
        for _ in range(count + 3):
            free.put(np.empty(PIECE_SIZE, dtype=np.uint8))
        running: deque[tuple[_Job, U8, Future[memoryview]]] = deque()
        workers = ThreadPoolExecutor(count, thread_name_prefix="open")
        try:
            for job in self._jobs():
                if len(running) == count + 2:
                    yield from _finish(running, free)
                buffer = free.get()
                running.append((job, buffer, workers.submit(self._open, job, buffer)))
            while running:
                yield from _finish(running, free)
        finally:
            workers.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Let memory go; no file stays open between reads."""
        with self._lock:
            self._packs.clear()
            self._frames.clear()

    def _read_run(self, at: int, length: int, location: int, view: memoryview) -> None:
        # ``at`` is where the run's first byte falls in ``view``; it may be before its start.
        size, each = self.block_size, frame_blocks(self.block_size)
        pack, slot = location >> 32, location & 0xFFFF_FFFF
        while length:
            within = slot % each
            count = min(length, each - within)
            plain = memoryview(self._frame(pack, slot // each))[within * size :]
            low, high = max(at, 0), min(at + count * size, len(view))
            view[low:high] = plain[low - at : high - at]
            at, slot, length = at + count * size, slot + count, length - count

    def _pack(self, index: int) -> PackReader:
        with self._lock:
            reader = self._packs.get(index)
            if reader is not None:
                self._packs.move_to_end(index)
                return reader
        reader = PackReader(self._store, self._places[index], self._key)
        with self._lock:
            self._packs[index] = reader
            if len(self._packs) > PACKS_CACHED_MAX:
                self._packs.popitem(last=False)
        return reader

    def _frame(self, pack: int, frame: int) -> bytes:
        with self._lock:
            plain = self._frames.get((pack, frame))
            if plain is not None:
                self._frames.move_to_end((pack, frame))
                return plain
        plain = self._pack(pack).frame(frame)
        with self._lock:
            self._frames[pack, frame] = plain
            if len(self._frames) > FRAMES_CACHED_MAX:
                self._frames.popitem(last=False)
        return plain

    def _jobs(self) -> Iterator[_Job]:
        for pack, runs in by_pack(self._runs):
            blocks, locations = expand(runs)
            reader = PackReader(self._store, self._places[pack], self._key)
            yield from _split(reader, blocks, locations & SLOT_MASK)

    def _open(self, job: _Job, buffer: U8) -> memoryview:
        reader, size = job.reader, self.block_size
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


def by_pack(runs: Runs) -> Iterator[tuple[int, Runs]]:
    """Yield each pack that content ``runs`` point into, and those runs in the order of slots."""
    ordered = runs.take(np.argsort(runs.locations, kind="stable"))
    packs = ordered.locations >> SLOT_BITS
    edges = np.flatnonzero(np.diff(packs)) + 1
    for part in np.split(np.arange(len(ordered)), edges):
        if len(part):
            yield int(packs[part[0]]), ordered.take(part)


def _split(reader: PackReader, blocks: U64, slots: U64) -> Iterator[_Job]:
    # Cut the wanted slots of a pack into jobs of at most a piece, and where a gap is wide.
    order = np.argsort(slots, kind="stable")
    blocks, slots = blocks[order], slots[order]
    each = frame_blocks(reader.index.block_size)
    frames = (slots // np.uint64(each)).astype(np.intp)
    needed = np.unique(frames)
    offsets = reader.index.offsets
    gaps = offsets[needed[1:]] - offsets[needed[:-1] + 1]
    first = 0
    per_job = PIECE_SIZE // FRAME_SIZE
    while first < len(needed):
        end = first + 1
        while end < len(needed) and end - first < per_job and gaps[end - 1] <= _GAP_SIZE_MAX:
            end += 1
        low, high = np.searchsorted(frames, [needed[first], needed[end - 1] + 1])
        span = slice(int(low), int(high))
        yield _Job(reader, int(needed[first]), int(needed[end - 1]) + 1, blocks[span], slots[span])
        first = end


def _finish(
    running: deque[tuple[_Job, U8, Future[memoryview]]], free: SimpleQueue[U8]
) -> Iterator[tuple[U64, memoryview]]:
    job, buffer, done = running.popleft()
    yield job.blocks, done.result()
    free.put(buffer)
