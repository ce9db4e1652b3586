"""Ships what differs: read, hash, leave out what did not change, hand the rest to a sink.

Everything works on arrays of blocks, one batch of at most ``BATCH_SIZE`` bytes at a time.
Runs in one thread and blocks; :mod:`blocksnapd.ship.reading` reads ahead in others. It hashes by
itself: a thread of its own for that would be in the way of this one at each block, as they take
turns at the interpreter.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd import blocks as block_math
from blocksnapd.blocks import runs_of
from blocksnapd.errors import CancelledRunError
from blocksnapd.model import HASH_SIZE, U8, U64, Extents
from blocksnapd.ship.reading import BATCH_SIZE, read_ahead
from blocksnapd.ship.spans import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.ports import BlockReader, PointSink
    from blocksnapd.ship.fingerprints import Fingerprints, Update


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shipment is: bytes looked at, of how many; bytes found different."""

    done: int
    total: int
    changed: int


@dataclass(slots=True)
class Shipment:
    """What one shipment did. ``state_added`` and ``state_removed`` are ``blocks.state_sum``s.

    ``again_bytes`` were shipped although they had not changed. ``untracked`` are the blocks that
    had, although nothing that tracks changes had said so, in pieces.
    """

    read_bytes: int = 0
    changed_bytes: int = 0
    again_bytes: int = 0
    untracked: list[U64] = field(default_factory=list)
    state_added: int = 0
    state_removed: int = 0


class Shipper:
    """One shipment of one point.

    Args:
        reader: content of the volume at the point's instant.
        known: the fingerprints of the base; None ships every block with content.
        sink: the point under way in the repository.
        update: collects the new fingerprints.
        hash_key: 32 bytes, the key of block identities.
        block_size: bytes per block.
        progress: called after each batch.
        cancelled: asked before each batch.
        again: blocks, ascending, that are shipped even if they did not change.
        tracked: where changes are known to be; None: that is not known.
    """

    def __init__(
        self,
        reader: BlockReader,
        known: Fingerprints | None,
        sink: PointSink,
        update: Update,
        *,
        hash_key: bytes,
        block_size: int,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        again: U64 | None = None,
        tracked: Extents | None = None,
    ) -> None:
        self._again = again
        self._tracked = tracked
        self._reader = reader
        self._known = known
        self._sink = sink
        self._update = update
        self._hash_key = hash_key
        self._block_size = block_size
        self._progress = progress
        self._cancelled = cancelled
        self._done = Shipment()

    def ship(self, extents: Extents) -> Shipment:
        """Ship every block in ``extents`` that is not what ``known`` says.

        Raises:
            CancelledRunError: ``cancelled`` said so; nothing is committed.
            HostError: the volume's snapshot can't be read.
            StoreError: the repository can't be written.
        """
        plan = batches(extents, self._block_size, BATCH_SIZE // self._block_size)
        total = extents.size
        ahead = read_ahead(self._reader, plan, self._block_size)
        with closing(ahead):  # or its threads would go on with a reader that is closed
            for batch, data in ahead:
                if self._cancelled():
                    raise CancelledRunError("the run was cancelled while it shipped")
                self._ship_batch(batch.blocks(), data)
                done = min(self._done.read_bytes, total)
                self._progress(Progress(done, total, self._done.changed_bytes))
        return self._done

    def _ship_batch(self, blocks: U64, data: memoryview) -> None:
        self._done.read_bytes += len(data)
        hashes = identities(data, self._block_size, self._hash_key)
        zero = block_math.is_zero_hash(hashes)
        if self._known is None:
            changed = ~zero
        else:
            old = self._known.get(blocks)
            changed = (old != hashes).any(axis=1)
            self._note_untracked(blocks[changed])
            changed |= self._is_again(blocks, changed | zero)
            self._done.state_removed = block_math.state_add(
                self._done.state_removed, block_math.state_sum(blocks[changed], old[changed]), 0
            )
        if changed.any():
            self._hand_over(blocks, hashes, data, changed, zero)

    def _is_again(
        self, blocks: U64, is_settled: np.typing.NDArray[np.bool_]
    ) -> np.typing.NDArray[np.bool_]:
        if self._again is None or not len(self._again):
            return np.zeros(len(blocks), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self._again, blocks), len(self._again) - 1)
        again = (self._again[at] == blocks) & ~is_settled
        size = int(again.sum()) * self._block_size
        self._done.again_bytes += size
        self._done.changed_bytes -= size  # it is shipped, but it is no change
        return np.asarray(again)

    def _note_untracked(self, changed: U64) -> None:
        if self._tracked is None or not len(changed):
            return
        size = np.uint64(self._block_size)
        starts, ends = self._tracked.starts, self._tracked.ends
        at = np.searchsorted(starts, changed * size + size - np.uint64(1), side="right") - 1
        inside = (at >= 0) & (ends[np.maximum(at, 0)] > changed * size) if len(starts) else at > 0
        if not inside.all():
            self._done.untracked.append(changed[~inside])

    def _hand_over(
        self,
        blocks: U64,
        hashes: U8,
        data: memoryview,
        changed: np.typing.NDArray[np.bool_],
        zero: np.typing.NDArray[np.bool_],
    ) -> None:
        moved, identity = blocks[changed], hashes[changed]
        self._done.changed_bytes += len(moved) * self._block_size
        self._done.state_added = block_math.state_add(
            self._done.state_added, block_math.state_sum(moved, identity), 0
        )
        self._update.put(moved, identity)
        emptied, filled = changed & zero, changed & ~zero
        if emptied.any():
            self._sink.add_zeros(*runs_of(blocks[emptied]))
        if filled.any():
            rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, self._block_size)
            content = rows[filled].data.cast("B") if not filled.all() else data
            self._sink.add(blocks[filled], hashes[filled], content)


def identities(data: memoryview, block_size: int, key: bytes) -> U8:
    """Return each block's identity, shape (n, 16); all zero for a block of zeros."""
    filled = block_math.nonzero_mask(data, block_size)
    if filled.all():
        return block_math.hash_blocks(data, block_size, key)
    hashes = np.zeros((len(filled), HASH_SIZE), dtype=np.uint8)
    if filled.any():
        which = (np.flatnonzero(filled) * block_size).tolist()
        hashes[filled] = block_math.hash_blocks(data, block_size, key, which)
    return hashes
