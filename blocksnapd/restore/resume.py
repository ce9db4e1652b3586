"""Going on with a restore that was killed, and leaving behind what that takes. Edge (threads).

While a restore writes, what it wrote is synced now and then, in a thread of its own, and then
remembered in the journal as a batch. The next restore of the same point to the same target reads
each batch back, past the page cache: one that has its content sum is kept, and not read from the
repository again; any other is written anew, as everything is that no batch tells of. The beginning
of a device is written last of all, so no batch tells of it.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blocksnapd.blocks import runs_of
from blocksnapd.errors import HostError
from blocksnapd.restore.content_sum import ContentSum
from blocksnapd.restore.journal import Batch
from blocksnapd.restore.verify import read_sum
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import U64
    from blocksnapd.ports import PointImage
    from blocksnapd.restore.journal import Journal
    from blocksnapd.restore.verify import Readable

BATCH_SIZE = 64 * MIB  # and never before so many bytes were written
BATCH_S = 5.0


class Syncs(Protocol):
    """A target whose writes can be brought to the disk."""

    def sync(self) -> None:
        """Bring everything written to the disk."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Blocks that a killed restore left and that are right: runs, ascending; their sum and bytes.

    ``is_cleared``: it had got the target ready.
    """

    starts: U64
    lengths: U64
    content_sum: int
    size: int
    is_cleared: bool


class Resume:
    """What one restore keeps and leaves. One thread, but for ``close``.

    Args:
        journal: where it is remembered.
        without: gives the image without runs of blocks, (starts, lengths).
        batch_size: bytes that are written between two batches.
        batch_s: seconds between two batches, at least.
        clock: seconds that never jump.
    """

    def __init__(
        self,
        journal: Journal,
        without: Callable[[U64, U64], PointImage],
        *,
        batch_size: int = BATCH_SIZE,
        batch_s: float = BATCH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.without = without
        self._journal, self._clock = journal, clock
        self._batch_size, self._batch_s = batch_size, batch_s
        self._blocks: list[U64] = []
        self._sum = ContentSum(1)
        self._size = 0
        self._last = clock()
        self._worker = ThreadPoolExecutor(1, "blocksnap-sync")
        self._syncing: Future[None] | None = None
        self.has_batches = False
        self._is_anew = False

    def distrust(self) -> None:
        """Begin anew, whatever a killed restore left."""
        self._is_anew = True

    def found(self) -> list[Batch]:
        """Return the batches of a restore of the same point to this target."""
        batches = [] if self._is_anew else self._journal.read()
        self.has_batches = any(len(batch.starts) for batch in batches)
        return batches

    def keep(
        self, batches: list[Batch], reader: Readable, block_size: int,
        advance: Callable[[int], None],
    ) -> Kept:  # fmt: skip
        """Return what of ``batches`` is right; from now on the journal tells of that alone.

        Args:
            batches: from ``found``.
            reader: reads the target past the page cache.
            block_size: bytes per block.
            advance: called with bytes read; may raise, to stop.

        Raises:
            HostError: the target failed, or the journal cannot be written.
        """
        if _joined(batches) is None:  # none of ours contradicts itself
            batches = []
        right = [b for b in batches if _is_right(b, reader, block_size, advance)]
        self._start(right)
        runs, total = _joined(right) or _NOTHING, ContentSum(block_size)
        for batch in right:
            total.add_sum(batch.content_sum)
        size = sum(end - start for start, end in _bytes(runs, block_size, reader.size))
        return Kept(runs.starts, runs.lengths, total.value(), size, is_cleared=bool(batches))

    def begin(self, target: Syncs) -> None:
        """Remember that ``target`` is ready to be written to, once that is on the disk."""
        target.sync()
        self._start([_NOTHING])

    def note(self, blocks: U64, content_sum: int, size: int, target: Syncs) -> None:
        """Take note of ``size`` bytes that were written; sync and remember them when it is time.

        Raises:
            HostError: syncing failed, or the journal cannot be written.
        """
        self._blocks.append(blocks)
        self._sum.add_sum(content_sum)
        self._size += size
        is_time = self._clock() - self._last >= self._batch_s
        if self._size >= self._batch_size and is_time:
            if self._syncing is not None:
                if not self._syncing.done():
                    return
                self._syncing.result()
            batch = self._cut()
            self._syncing = self._worker.submit(self._remember, batch, target)

    def flush(self) -> None:
        """Remember what was noted and, as the caller knows, is synced; raises as ``note``."""
        if self._syncing is not None:
            self._syncing.result()
            self._syncing = None
        if self._blocks:
            self._add(self._cut())

    def close(self) -> None:
        """Let nothing be under way any more: the target may be closed."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Remove the journal: there is nothing to go on with."""
        self.has_batches = False
        try:
            self._journal.remove()
        except OSError as error:
            raise self._failed(error) from error

    def _cut(self) -> Batch:
        blocks = np.sort(np.concatenate(self._blocks))
        batch = Batch(*runs_of(blocks), self._sum.value())
        self._blocks, self._sum, self._size = [], ContentSum(1), 0
        self._last = self._clock()
        return batch

    def _remember(self, batch: Batch, target: Syncs) -> None:
        target.sync()
        self._add(batch)

    def _add(self, batch: Batch) -> None:
        try:
            self._journal.add(batch)
        except OSError as error:
            raise self._failed(error) from error
        self.has_batches = True

    def _start(self, batches: list[Batch]) -> None:
        try:
            self._journal.start(batches)
        except OSError as error:
            raise self._failed(error) from error
        self.has_batches = any(len(batch.starts) for batch in batches)

    def _failed(self, error: OSError) -> HostError:
        return HostError(
            f"The journal {self._journal.path} cannot be written: {error.strerror}.",
            hint="Make room there, or see the kernel log for the disk under it.",
        )


_NOTHING = Batch(np.zeros(0, np.uint64), np.zeros(0, np.uint64), 0)


def _is_right(
    batch: Batch, reader: Readable, block_size: int, advance: Callable[[int], None]
) -> bool:
    if len(batch.starts) and int(batch.starts[-1]) * block_size >= reader.size:
        return False
    ranges = _bytes(batch, block_size, reader.size)
    return read_sum(reader, ranges, block_size, advance) == batch.content_sum


def _bytes(batch: Batch, block_size: int, size: int) -> list[tuple[int, int]]:
    """Return the runs of a batch as byte ranges, cut at the image's end."""
    return [
        (start * block_size, min((start + length) * block_size, size))
        for start, length in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)
    ]


def _joined(batches: list[Batch]) -> Batch | None:
    """Return the runs of all in one, without their sums; None where they overlap."""
    starts = np.concatenate([batch.starts for batch in [_NOTHING, *batches]])
    lengths = np.concatenate([batch.lengths for batch in [_NOTHING, *batches]])
    order = np.argsort(starts, kind="stable")
    starts, lengths = starts[order], lengths[order]
    if (starts[1:] < starts[:-1] + lengths[:-1]).any():
        return None
    return Batch(starts, lengths, 0)
