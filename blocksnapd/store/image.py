"""A restore point seen as a disk: a ``ports.PointImage``. Edge.

Reading everything goes pack by pack (see ``pieces.py``), reading a place frame by frame.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.model import U64, Extents
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.model import RestorePoint
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_reader import PointMap

PACKS_CACHED_MAX = 32
FRAMES_CACHED_MAX = 256


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
        return pieces(self._runs, self._places, self._store, self._key)

    def close(self) -> None:
        """Let memory go; no file stays open between reads."""
        with self._lock:
            self._packs.clear()
            self._frames.clear()

    def _read_run(self, at: int, length: int, location: int, view: memoryview) -> None:
        # ``at`` is where the run's first byte falls in ``view``; it may be before its start.
        size, pack, slot = self.block_size, location >> 32, location & 0xFFFF_FFFF
        each = self._pack(pack).slots_per_frame
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
