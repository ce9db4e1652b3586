"""One pack in the making: frames sealed in threads, then the object's parts. Edge (threads).

Blocks come in batches whose memory is used again: a batch is sealed by a worker, which then
gives it back. Memory: the sealed frames of the pack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from blake3 import blake3

from blocksnapd.blocks import state_sum
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.store.frames import FrameCodec, frame_blocks, frame_sum, frame_sum_key
from blocksnapd.store.pack_format import PACK_BLOCKS_MAX, index_record, pack_tail
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.runs import Runs, join
from blocksnapd.store.seal import Scope, digest, new_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from blocksnapd.store.keys import SourceKey

PACK_SIZE_TARGET = 32 << 20
BATCH_SIZE = 1 << 20


@dataclass(slots=True, eq=False)
class Batch:
    """Up to ``BATCH_SIZE`` bytes of blocks on their way into frames."""

    block_size: int
    data: memoryview
    blocks: U64 = field(init=False)
    hashes: U8 = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        most = BATCH_SIZE // self.block_size
        self.blocks = np.empty(most, dtype=np.uint64)
        self.hashes = np.empty((most, HASH_SIZE), dtype=np.uint8)

    def fill(self, blocks: U64, hashes: U8, rows: U8, which: np.typing.NDArray[np.intp]) -> int:
        """Copy in as many as there is room for of the blocks ``which`` selects; return how many.

        Shapes (n,), (n, 16), (n, block_size) and (m,).
        """
        at = self.count
        which = which[: len(self.blocks) - at]
        end = at + len(which)
        # Any other mode would copy twice.
        room = np.frombuffer(self.data, dtype=np.uint8).reshape(-1, self.block_size)
        rows.take(which, axis=0, out=room[at:end], mode="clip")
        self.blocks[at:end] = blocks[which]
        self.hashes[at:end] = hashes[which]
        self.count = end
        return len(which)

    @property
    def is_full(self) -> bool:
        """Whether there is no more room."""
        return self.count == len(self.blocks)


@dataclass(frozen=True, slots=True)
class FinishedPack:
    """A pack's bytes in parts, and how a point names it."""

    ref: PackRef
    parts: list[bytes]


class _Sealed(NamedTuple):
    data: bytes
    sum: bytes


class PackWriter:
    """Collects batches for one pack. ``add`` from one thread, ``finish`` from any one."""

    def __init__(
        self,
        scope: Scope,
        key: SourceKey,
        *,
        point_id: str,
        seq: int,
        block_size: int,
        level: int,
        frame_size: int,
    ) -> None:
        self.slots = 0
        self._scope, self._key = scope, key
        self._point_id, self._seq = point_id, seq
        self._block_size, self._level = block_size, level
        self._frame_blocks = frame_blocks(block_size, min(frame_size, BATCH_SIZE))
        self._codec = FrameCodec(scope, new_key())
        self._sum_key = frame_sum_key(key.hash_key)
        self._sealed: list[Future[list[_Sealed]]] = []
        self._blocks: list[U64] = []
        self._hashes: list[U8] = []
        self._lock = Lock()
        self._expected_size = 0

    def has_room(self, batch: Batch) -> bool:
        """Return whether the pack stays within its target with ``batch``, once full, in it."""
        if not self.slots:
            return True
        with self._lock:
            size = self._expected_size
        return size < PACK_SIZE_TARGET and self.slots + len(batch.blocks) <= PACK_BLOCKS_MAX

    def add(self, batch: Batch, workers: Executor, give_back: Callable[[Batch], None]) -> None:
        """Take ``batch``, whole frames unless it is the last; it is given back once sealed."""
        frame = self.slots // self._frame_blocks
        self._blocks.append(batch.blocks[: batch.count].copy())
        self._hashes.append(batch.hashes[: batch.count].copy())
        self.slots += batch.count
        with self._lock:
            # Raw until compressed: how large the pack becomes is known a little late.
            self._expected_size += batch.count * self._block_size
        self._sealed.append(workers.submit(self._seal, frame, batch, give_back))

    def content(self) -> tuple[U64, U8]:
        """Return the blocks taken and their identities, by slot."""
        return np.concatenate(self._blocks), np.concatenate(self._hashes)

    def state_sum(self) -> int:
        """Return the state sum of the blocks taken."""
        return state_sum(*self.content())

    def finish(self, zeros: list[Runs]) -> FinishedPack:
        """Return the whole pack; waits for its workers.

        ``zeros`` are the zero runs told since the pack before, ascending.
        """
        sealed = [frame for batch in self._sealed for frame in batch.result()]
        frames = [frame.data for frame in sealed]
        sizes = [len(frame) for frame in frames]
        record = index_record(
            self._point_id, self._seq, *self.content(), sizes, join(zeros),
            b"".join(frame.sum for frame in sealed),
        )  # fmt: skip
        tail = pack_tail(
            self._scope,
            record=record,
            data_key=self._codec.key,
            index_key=new_key(),
            data_public=self._key.data_public,
            metadata_public=self._key.metadata_public,
            data_size=sum(sizes),
            frames=len(frames),
            block_size=self._block_size,
            frame_blocks=self._frame_blocks,
        )
        hasher = blake3()
        for part in (*frames, tail):
            hasher.update(part)
        ref = PackRef(
            name=self._scope.name,
            size=sum(sizes) + len(tail),
            digest=hasher.hexdigest(),
            tail_size=len(tail),
            tail_digest=digest(tail),
            blocks=self.slots,
        )
        return FinishedPack(ref, [*frames, tail])

    def _seal(self, frame: int, batch: Batch, give_back: Callable[[Batch], None]) -> list[_Sealed]:
        raw = batch.count * self._block_size
        try:
            frame_size = self._frame_blocks * self._block_size
            frames = self._codec.seal(frame, batch.data[:raw], self._level, frame_size)
        finally:
            batch.count = 0
            give_back(batch)
        with self._lock:
            self._expected_size += sum(map(len, frames)) - raw
        return [_Sealed(data, frame_sum(data, self._sum_key)) for data in frames]
