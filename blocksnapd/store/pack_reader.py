"""Reading out of one pack: its tail once, then frames, each block checked. Edge. Thread-safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import hash_blocks
from blocksnapd.errors import ChecksumError, RepositoryFormatError
from blocksnapd.model import HASH_SIZE, U8
from blocksnapd.store.frames import FrameCodec
from blocksnapd.store.keys import RestoreKey
from blocksnapd.store.pack_format import unpack_tail
from blocksnapd.store.seal import Scope, damaged, digest, open_key

if TYPE_CHECKING:
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore


class PackReader:
    """A pack whose tail was read and found genuine; with a restore key its frames open too."""

    def __init__(self, store: ObjectStore, place: PackPlace, key: MaintenanceKey) -> None:
        """Read the tail.

        Raises:
            ChecksumError: it is not the one the point names.
            RepositoryFormatError: it is, but does not fit. StoreError: the place failed.
        """
        self.place = place
        self._store = store
        self._hash_key = key.source.hash_key
        ref = place.ref
        scope = Scope(key.source.repository_id, place.volume_id, ref.name)
        tail_at = place.offset + ref.size - ref.tail_size
        self.tail = tail = store.get_range(place.holder, tail_at, ref.tail_size)
        if digest(tail) != ref.tail_digest:
            raise damaged(f"the tail of {ref.name}")
        self.index, footer = unpack_tail(tail, scope, key.metadata_private)
        if (
            footer.blocks != ref.blocks
            or footer.data_size + len(tail) != ref.size
            or footer.block_size != place.block_size
        ):
            raise RepositoryFormatError(f"{ref.name} is not as its point says")
        self._frame_blocks = footer.frame_blocks
        self._repository_id, self._key = key.source.repository_id, key
        self.data_seal = footer.data_seal
        self._codecs: dict[str, FrameCodec] = {}
        if isinstance(key, RestoreKey):
            self._codec_of(ref.name, footer.data_seal)

    @property
    def slots_per_frame(self) -> int:
        """Blocks in every frame but perhaps the last."""
        return self._frame_blocks

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.index.offsets) - 1

    def read(self, first: int, end: int) -> memoryview:
        """Return the sealed bytes of the frames ``first`` up to but without ``end``."""
        low, high = int(self.index.offsets[first]), int(self.index.offsets[end])
        data = self._store.get_range(self.place.holder, self.place.offset + low, high - low)
        if len(data) != high - low:
            raise damaged(f"{self.place.ref.name} (it ends early, which)")
        return memoryview(data)

    def open_frame(self, frame: int, sealed: memoryview, first: int) -> bytes:
        """Return a frame's blocks out of ``sealed``, which ``read(first, …)`` gave.

        Raises:
            ChecksumError, RepositoryFormatError: the frame is not what was written.
        """
        codec, number = self._sealed_as(frame)
        return codec.open(number, self._cut(frame, sealed, first), self.index.frame_size(frame))

    def open_frame_into(
        self, frame: int, sealed: memoryview, first: int, view: memoryview, scratch: memoryview
    ) -> None:
        """Fill ``view`` with a frame's blocks, see ``open_frame`` and ``FrameCodec.open_into``."""
        assert len(view) == self.index.frame_size(frame)
        codec, number = self._sealed_as(frame)
        codec.open_into(number, self._cut(frame, sealed, first), view, scratch)

    def _sealed_as(self, frame: int) -> tuple[FrameCodec, int]:
        # A frame that was copied is sealed and bound as it was where it came from.
        origins = self.index.origins
        if origins is None or not origins.keys[frame]:
            number = frame if origins is None else int(origins.numbers[frame])
            return self._codec_of(self.place.ref.name, self.data_seal), number
        source = origins.sources[int(origins.keys[frame]) - 1]
        return self._codec_of(source.name, source.data_seal), int(origins.numbers[frame])

    def _codec_of(self, name: str, seal: bytes) -> FrameCodec:
        codec = self._codecs.get(name)
        if codec is None:
            assert isinstance(self._key, RestoreKey)  # nobody else may open frames
            scope = Scope(self._repository_id, self.place.volume_id, name)
            info = scope.binding("frame")
            data_key = open_key(seal, self._key.data_private, info, what=name)
            codec = self._codecs[name] = FrameCodec(scope, data_key)
        return codec

    def _cut(self, frame: int, sealed: memoryview, first: int) -> memoryview:
        base = int(self.index.offsets[first])
        low, high = (int(o) - base for o in self.index.offsets[frame : frame + 2])
        return sealed[low:high]

    def frame(self, frame: int) -> bytes:
        """Return a frame's blocks, each checked against its identity.

        Raises:
            ChecksumError, RepositoryFormatError: they are not what was written.
        """
        plain = self.open_frame(frame, self.read(frame, frame + 1), frame)
        slots = np.arange(len(plain) // self.index.block_size) + frame * self._frame_blocks
        self.check(slots, memoryview(plain))
        return plain

    def identities(self, slots: np.typing.NDArray[np.integer]) -> U8:
        """Return the identities of the blocks in ``slots``, shape (n, 16)."""
        return np.asarray(self.index.identities[slots])

    def mismatched(
        self, slots: np.typing.NDArray[np.integer], data: memoryview
    ) -> np.typing.NDArray[np.bool_]:
        """Return for each of ``slots`` whether its block in ``data`` has another identity."""
        found = hash_blocks(data, self.index.block_size, self._hash_key)
        wanted = self.index.identities[slots]
        pairs = found.view(np.uint64) != np.ascontiguousarray(wanted).view(np.uint64)
        return np.asarray(pairs.reshape(-1, HASH_SIZE // 8).any(axis=1))

    def check(self, slots: np.typing.NDArray[np.integer], data: memoryview) -> None:
        """Make sure that ``data`` holds the blocks of ``slots``.

        Raises:
            ChecksumError: a block has another identity.
        """
        wrong = self.mismatched(slots, data)
        if wrong.any():
            slot = int(np.asarray(slots)[wrong][0])
            raise ChecksumError(
                f"{int(wrong.sum())} blocks of {self.place.ref.name} (slot {slot} first) do not "
                "have the identity that was recorded",
                effect="They were damaged before they were sealed; they are not used.",
                hint="Run verify to learn which points and ranges are affected.",
            )
