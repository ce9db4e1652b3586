"""One repacked pack in the making: frames copied as they are, or made anew. Edge (reads).

Memory: the frames of one pack, one frame opened, and what its table takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.columns import pack_column
from blocksnapd.store.frames import (
    FrameCodec,
    frame_sum,
    frame_sum_key,
)
from blocksnapd.store.keys import RestoreKey
from blocksnapd.store.pack_format import PACK_BLOCKS_MAX, IndexRecord, pack_tail
from blocksnapd.store.pack_writer import PACK_SIZE_TARGET
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.repack_format import Origins, Source, pack_origins, slots_here
from blocksnapd.store.runs import expand
from blocksnapd.store.seal import Scope, damaged, digest, new_key

if TYPE_CHECKING:
    from blocksnapd.maintain.repack import Slots
    from blocksnapd.model import U8, U64
    from blocksnapd.packing import Packing
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.pack_reader import PackReader

_BOOLS = np.typing.NDArray[np.bool_]


class RepackWriter:
    """Takes packs, one after the other; all have blocks of one size."""

    def __init__(self, scope: Scope, key: MaintenanceKey, *, packing: Packing) -> None:
        self._scope, self._key, self._packing = scope, key, packing
        self._codec = FrameCodec(scope, new_key())
        self._sum_key = frame_sum_key(key.source.hash_key)
        self._frames: list[bytes] = []
        self._keys: list[int] = []
        self._numbers: list[int] = []
        self._counts: list[int] = []
        self._sources: dict[str, tuple[int, Source]] = {}
        self._plain: list[U8] = []
        self._rows: list[tuple[U64, U64, U64, U8]] = []  # origins, slots, blocks, identities
        self._size = self._block_size = 0
        self._ref: PackRef | None = None

    @property
    def name(self) -> str:
        """Of the pack."""
        return self._scope.name

    @property
    def ref(self) -> PackRef:
        """How a manifest names it, once it is finished."""
        assert self._ref is not None
        return self._ref

    def has_room(self, reader: PackReader) -> bool:
        """Return whether a pack may go into this one, too; the first always may."""
        if not self._rows:
            return True
        if isinstance(self._key, RestoreKey):
            slots = sum(len(row[0]) for row in self._rows) + reader.index.slots
        else:  # frames stay as they are: the largest one tells how many slots each of them takes
            each = max(*self._counts, reader.slots_per_frame)
            slots = (len(self._frames) + reader.frames) * each
        return self._size < PACK_SIZE_TARGET and slots <= PACK_BLOCKS_MAX

    def add(self, reader: PackReader, slots: Slots, living: _BOOLS) -> None:
        """Take the living ones of a pack's ``slots``.

        Raises:
            ChecksumError, RepositoryFormatError, StoreError: they cannot be read.
        """
        if self._block_size not in (0, reader.index.block_size):
            raise RepositoryFormatError(f"{reader.place.ref.name} has blocks of another size")
        self._block_size = reader.index.block_size
        origins = self._origins_of(reader, slots)
        blocks = _blocks_of(reader)
        frames = (slots.here // np.uint64(reader.slots_per_frame)).astype(np.intp)
        for frame in np.unique(frames[living]).tolist():
            mine = frames == frame
            if isinstance(self._key, RestoreKey):
                rows = np.frombuffer(reader.frame(frame), dtype=np.uint8)
                self._plain.append(rows.reshape(-1, self._block_size)[living[mine]])
                mine &= living
            else:
                self._copy(reader, frame, int(mine.sum()))
            identities = reader.identities(slots.here[mine].astype(np.intp))
            self._rows.append((origins[mine], slots.slots[mine], blocks[mine], identities))
            self._seal_whole()

    def finish(self) -> list[bytes]:
        """Return the whole object in parts.

        Raises:
            RepositoryFormatError: its frames are more than a pack may have.
        """
        rest = [rows for rows in self._plain if len(rows)]
        if rest:
            self._seal(np.concatenate(rest))
        counts = np.array(self._counts, dtype=np.uint64)
        each = max(self._counts)
        origins, slots, blocks = (
            np.concatenate([row[at] for row in self._rows]) for at in range(3)
        )
        here = slots_here(counts, each)
        if int(here[-1]) >= PACK_BLOCKS_MAX:
            raise RepositoryFormatError(f"{self.name} would have too many frames")
        record = IndexRecord(
            point_id="", seq=0, blocks=[], zeros=[],
            identities=np.concatenate([row[3] for row in self._rows]).tobytes(),
            frame_sizes=pack_column(np.array([len(f) for f in self._frames], dtype=np.uint64)),
            frame_sums=b"".join(frame_sum(frame, self._sum_key) for frame in self._frames),
            repacked=pack_origins(
                Origins(
                    sources=tuple(source for _, source in self._sources.values()),
                    keys=np.array(self._keys, dtype=np.uint64),
                    numbers=np.array(self._numbers, dtype=np.uint64),
                    counts=counts, origins=origins, slots=slots, blocks=blocks, here=here,
                )
            ),
        )  # fmt: skip
        tail = pack_tail(
            self._scope, record=record, data_key=self._codec.key, index_key=new_key(),
            data_public=self._key.source.data_public,
            metadata_public=self._key.source.metadata_public, data_size=self._size,
            frames=len(self._frames), block_size=self._block_size, frame_blocks=each,
            slots=int(here[-1]) + 1,
        )  # fmt: skip
        hasher = blake3()
        for part in (*self._frames, tail):
            hasher.update(part)
        self._ref = PackRef(
            name=self.name, size=self._size + len(tail), digest=hasher.hexdigest(),
            tail_size=len(tail), tail_digest=digest(tail), blocks=int(here[-1]) + 1,
        )  # fmt: skip
        parts, self._frames = [*self._frames, tail], []
        return parts

    def _origins_of(self, reader: PackReader, slots: Slots) -> U64:
        # The sources of a pack, numbered as ours.
        found = reader.index.origins
        own = (Source(reader.place.ref.name, reader.data_seal),)
        sources = own if found is None else found.sources
        numbers = [self._number(source) for source in sources]
        return np.array(numbers, dtype=np.uint64)[slots.origins.astype(np.intp)]

    def _number(self, source: Source) -> int:
        return self._sources.setdefault(source.name, (len(self._sources), source))[0]

    def _copy(self, reader: PackReader, frame: int, count: int) -> None:
        found = reader.index.origins
        if found is None or not found.keys[frame]:
            source = Source(reader.place.ref.name, reader.data_seal)
            number = frame if found is None else int(found.numbers[frame])
        else:
            source = found.sources[int(found.keys[frame]) - 1]
            number = int(found.numbers[frame])
        sealed, sums = bytes(reader.read(frame, frame + 1)), reader.index.frame_sums
        if len(sums) and frame_sum(sealed, self._sum_key) != sums[frame].tobytes():
            raise damaged(f"frame {frame} of {reader.place.ref.name}")
        self._take(sealed, self._number(source) + 1, number, count)

    def _seal_whole(self) -> None:
        # Blocks wait until they make up a whole frame: many make a better one than few.
        whole = self._packing.frame_size // self._block_size
        if sum(map(len, self._plain)) >= whole:
            rows = np.concatenate(self._plain)
            cut = len(rows) // whole * whole
            self._seal(rows[:cut])
            self._plain = [rows[cut:]]

    def _seal(self, rows: U8) -> None:
        number, size = len(self._frames), self._packing.frame_size
        each = size // self._block_size
        plain = np.ascontiguousarray(rows).reshape(-1).data
        made = self._codec.seal(number, plain, self._packing.level, size)
        for at, sealed in enumerate(made):
            count = min(each, len(rows) - at * each)
            self._take(sealed, 0, number + at, count)

    def _take(self, sealed: bytes, key: int, number: int, count: int) -> None:
        self._frames.append(sealed)
        self._keys.append(key)
        self._numbers.append(number)
        self._counts.append(count)
        self._size += len(sealed)


def _blocks_of(reader: PackReader) -> U64:
    # The numbers that the blocks of a pack had when they were written.
    if reader.index.origins is not None:
        return reader.index.origins.blocks
    return expand(reader.index.blocks)[0]
