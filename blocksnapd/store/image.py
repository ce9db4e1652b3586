"""A restore point seen as a disk: a ``ports.PointImage``. Edge.

Reading everything goes window by window of the map, and in each pack by pack (``pieces.py``);
reading a place unfolds only the map around it, and reads frame by frame. However large the image
and whatever its history, memory stays within the limits here and those of ``stack.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.model import HASH_SIZE, U8, U64, Extents
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.pieces import each_piece
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, Runs
from blocksnapd.store.salvage import LeftOut, find_damage
from blocksnapd.store.sized_cache import SizedCache

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from blocksnapd.model import RestorePoint
    from blocksnapd.store.keys import RestoreKey
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.redirect import ContentMap
    from blocksnapd.store.salvage import Damage

T = TypeVar("T")

SEGMENT_BLOCKS = 1 << 16
SEGMENTS_SIZE_MAX = 16 << 20
PACKS_SIZE_MAX = 32 << 20
FRAMES_SIZE_MAX = 64 << 20
_RUN_SIZE = 24
_FEW_BLOCKS = 8 * SEGMENT_BLOCKS


class Image:
    """See ``ports.PointImage``. Thread-safe."""

    def __init__(
        self, store: ObjectStore, key: RestoreKey, point: RestorePoint, stack: ContentMap
    ) -> None:
        self._store, self._key, self._point, self._stack = store, key, point, stack
        self._segments: SizedCache[Runs] = SizedCache(
            SEGMENTS_SIZE_MAX, lambda runs: _RUN_SIZE * (len(runs) + 1)
        )
        # Besides its tail a reader holds what the tail says.
        self._packs: SizedCache[PackReader] = SizedCache(
            PACKS_SIZE_MAX, lambda pack: 2 * len(pack.tail)
        )
        self._frames: SizedCache[bytes] = SizedCache(FRAMES_SIZE_MAX, len)

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

    @property
    def depth(self) -> int:
        """How many layers it is read through."""
        return self._stack.depth

    @property
    def problems(self) -> Sequence[str]:
        """What could not be used of the point's history, and was done without."""
        return self._stack.problems

    @property
    def map(self) -> ContentMap:
        """Where its content lies."""
        return self._stack

    def data_extents(self, start: int = 0, end: int | None = None) -> Extents:
        """Return where the image has content; everything else is zero.

        Args:
            start: only from this byte on.
            end: and up to this one. All at once take 16 bytes for each extent: for maps of any
                size use ``extents``.
        """
        found = list(self._extents(start, self.size if end is None else min(end, self.size)))
        starts = np.concatenate([np.zeros(0, np.uint64), *(part.starts for part in found)])
        ends = np.concatenate([np.zeros(0, np.uint64), *(part.ends for part in found)])
        apart = starts[1:] != ends[:-1]  # windows cut what belongs together
        first = np.concatenate([apart[:0], np.ones(min(1, len(starts)), np.bool_), apart])
        last = np.concatenate([apart, np.ones(min(1, len(ends)), np.bool_)])
        return Extents(starts[first], ends[last])

    def extents(self) -> Iterator[Extents]:
        """Yield what ``data_extents`` returns, ascending and piece by piece.

        The last extent of a piece may touch the first of the next. Memory: one window.
        """
        return self._extents(0, self.size)

    def data_size(self) -> int:
        """Return how many bytes of content there are, in bounded memory."""
        return sum(part.size for part in self.extents())

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the image's bytes from ``offset``; see ``ports.PointImage``."""
        view = view.cast("B")
        assert 0 <= offset <= offset + len(view) <= self.size
        view[:] = bytes(len(view))
        size = self.block_size
        for runs in self._runs(offset // size, -(-(offset + len(view)) // size)):
            for start, length, location in zip(
                runs.starts.tolist(), runs.lengths.tolist(), runs.locations.tolist(), strict=True
            ):
                self._read_run(start * size - offset, length, location, view)

    def pieces(self) -> Iterator[tuple[U64, memoryview]]:
        """Yield all content, window by window, each pack by pack; see ``ports.PointImage``."""
        return self.each_piece(lambda blocks, data: (blocks, data))

    def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
        """Yield what ``work`` returns for each piece; see ``ports.PointImage``."""
        for first, end in self._stack.windows():
            runs = self._stack.content(first, end)
            yield from self.pieces_of(runs, work)

    def pieces_of(self, runs: Runs, work: Callable[[U64, memoryview], T]) -> Generator[T]:
        """Yield what ``work`` returns for each piece of ``runs``, a part of ``map``."""
        return each_piece(runs, self._stack.places, self._store, self._key, work)

    def identities(self, locations: U64) -> U8:
        """Return the identity of what lies at each of ``locations`` of ``map``, shape (n, 16).

        Raises:
            ChecksumError, RepositoryFormatError: the repository's bytes are damaged there.
        """
        found = np.empty((len(locations), HASH_SIZE), np.uint8)
        packs = locations >> SLOT_BITS
        order = np.argsort(packs, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(packs[order])) + 1):
            if len(part):
                reader = self._pack(int(packs[part[0]]))
                slots = locations[part] & SLOT_MASK
                if int(slots.max()) >= reader.index.slots:
                    raise RepositoryFormatError(f"{reader.place.ref.name} has no such slot")
                found[part] = reader.identities(slots.astype(np.intp))
        return found

    def damage(self, progress: Callable[[int, int], None]) -> Damage:
        """Read every pack it needs and return what is lost; see ``salvage.find_damage``."""
        blocks = -(-self.size // self.block_size)
        return find_damage(self._stack, blocks, self._store, self._key, progress)

    def without(self, blocks: Runs, unmapped: Runs | None = None) -> Image:
        """Return this image with zeros in ``blocks``, see ``salvage.LeftOut``."""
        left = LeftOut(self._stack, blocks, unmapped)
        return Image(self._store, self._key, self._point, left)

    def close(self) -> None:
        """Let memory go; no file stays open between reads."""
        for cache in (self._segments, self._packs, self._frames):
            cache.clear()

    def _extents(self, start: int, end: int) -> Iterator[Extents]:
        unit, low, high = np.uint64(self.block_size), np.uint64(start), np.uint64(end)
        for runs in self._maps(start // self.block_size, -(-end // self.block_size)):
            if len(runs):
                starts, ends = runs.starts, runs.ends
                apart = starts[1:] != ends[:-1]
                firsts = starts[np.concatenate([[True], apart])]
                lasts = ends[np.concatenate([apart, [True]])]
                yield Extents(np.maximum(firsts * unit, low), np.minimum(lasts * unit, high))

    def _maps(self, first: int, end: int) -> Iterator[Runs]:
        # The map of these blocks: of few out of segments, which the next question may need too.
        if end - first <= _FEW_BLOCKS:
            yield from self._runs(first, end)
            return
        for low, high in self._stack.windows():
            if low < end and high > first:
                yield self._stack.content(max(low, first), min(high, end))

    def _runs(self, first: int, end: int) -> Iterator[Runs]:
        # The map of these blocks, out of segments that are kept for the next read.
        each = SEGMENT_BLOCKS
        for number in range(first // each, -(-end // each)):
            runs = self._segments.get(
                number,
                lambda at=number * each: self._stack.content(at, at + each),  # type: ignore[misc]
            )
            yield runs.cut(first, end)

    def _read_run(self, at: int, length: int, location: int, view: memoryview) -> None:
        # ``at`` is where the run's first byte falls in ``view``; it may be before its start.
        size, pack, slot = self.block_size, location >> 32, location & 0xFFFF_FFFF
        reader = self._pack(pack)
        each = reader.slots_per_frame
        while length:
            within = slot % each
            count = min(length, each - within)
            plain = memoryview(self._frame(reader, pack, slot // each))
            plain = plain[within * size : (within + count) * size]
            # Only what is wanted: a read of one block need not pay for a frame of them.
            reader.check(np.arange(slot, slot + count), plain)
            low, high = max(at, 0), min(at + count * size, len(view))
            view[low:high] = plain[low - at : high - at]
            at, slot, length = at + count * size, slot + count, length - count

    def _pack(self, index: int) -> PackReader:
        place = self._stack.places[index]
        return self._packs.get(index, lambda: PackReader(self._store, place, self._key))

    def _frame(self, reader: PackReader, pack: int, frame: int) -> bytes:
        def open_it() -> bytes:
            return reader.open_frame(frame, reader.read(frame, frame + 1), frame)

        return self._frames.get((pack, frame), open_it)
