"""Restores a whole point to a file or device, and reads it back to prove it.

    clear     a device: its beginning blanked, zeros where the image has none; a file: nothing
    check     what a killed restore left is read back; what is right is kept
    write     all content, in the repository's order, neighbouring blocks in one write
    sync      on the disk
    verify    the target, read past the page cache, has the content sum of what was written
    done      the file gets its name, the device its first MiB

What the verification proves: the disk holds, at each place, the bytes that the repository's
reader handed out (it checked each block against its identity), and zeros everywhere else. A
restore that ends in any other way leaves nothing that looks like a whole image. With a ``Resume``
one that was killed, cancelled or lost its repository can be gone on with. Edge.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from blocksnapd.errors import (
    BlocksnapError,
    CancelledRunError,
    ChecksumError,
    HostError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.restore.content_sum import ContentSum, content_sum
from blocksnapd.restore.gaps import gaps_of
from blocksnapd.restore.pieces import write_piece
from blocksnapd.restore.progress import Meter
from blocksnapd.restore.verify import differences, read_sum
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from blocksnapd.model import U64, Extents
    from blocksnapd.ports import PointImage
    from blocksnapd.restore.journal import Batch
    from blocksnapd.restore.progress import Progress
    from blocksnapd.restore.resume import Kept, Resume
    from blocksnapd.restore.target import Kind
    from blocksnapd.runtime.direct_reader import DirectReader

# So much may wait in memory: a restore must not push everything else of the host out of it.
RELEASE_SIZE = 64 * MIB
_NOWHERE = 1 << 63, 0
_REPOSITORY_SAFE = "The repository is untouched."


class Target(Protocol):
    """What is restored to, open: ``FileTarget`` or ``DeviceTarget``. Called in this order."""

    @property
    def path(self) -> str:
        """The file or device that is written to."""

    @property
    def kind(self) -> Kind:
        """What it is."""

    @property
    def leftover(self) -> str:
        """What a restore that is given up leaves, as a sentence."""

    @property
    def has_old(self) -> bool:
        """Whether it may hold what a killed restore left."""

    @property
    def held_back(self) -> int:
        """How many bytes at the beginning only ``finish`` brings to the disk; after ``clear``."""

    def clear(self, size: int, gaps: Iterable[Extents], advance: Callable[[int], None]) -> None:
        """Get ready for an image of ``size`` bytes that is zero in ``gaps``, in pieces."""

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``; each byte at most once. Several threads may call it."""

    def release(self, start: int, end: int) -> None:
        """Start bringing to the disk what was written there, give back the memory of what is."""

    def sync(self) -> None:
        """Bring everything written to the disk."""

    def ranges(self) -> list[tuple[int, int]]:
        """Return the byte ranges, ascending, that have to be read back."""

    def reader(self) -> DirectReader:
        """Open what was written, past the page cache."""

    def finish(self) -> None:
        """Make it look like what it now is."""

    def abandon(self) -> None:
        """Give up; after ``finish`` this does nothing."""

    def suspend(self) -> None:
        """Stop, to be gone on with later; after ``finish`` this does nothing."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did.

    ``written_bytes`` is content, ``hole_bytes`` the rest of the image: holes of a file, zeros on
    a device. ``verified_bytes`` were proven equal, 0 without verification; ``read_bytes`` of them
    had to be read from the disk for that. ``kept_bytes`` of the content were there already.
    """

    path: str
    kind: Kind
    size: int
    written_bytes: int
    hole_bytes: int
    verified_bytes: int
    read_bytes: int
    write_s: float
    verify_s: float
    kept_bytes: int = 0


def restore_full(
    image: PointImage,
    target: Target,
    *,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    verify: bool = True,
    resume: Resume | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RestoreReport:
    """Write the whole ``image`` to ``target``. Blocking, for long: call it in a thread.

    Args:
        image: The point to restore; stays open.
        target: From ``open_target``; done with afterwards, whatever happens.
        progress: Called in this thread a few times per second.
        cancelled: Asked every few MiB whether to stop.
        verify: Whether to read everything back.
        resume: Goes on with what a killed restore left, and leaves what can be gone on with.
        clock: Seconds that never jump.

    Raises:
        CancelledRunError: ``cancelled`` said so.
        HostError: the target failed or is full.
        ChecksumError: the repository's content is damaged, or the target's after writing.
        RepositoryFormatError, StoreError: the repository cannot be read.
        RefusedError: a file of that name appeared meanwhile.
    """
    restore = _Restore(image, target, progress, cancelled, clock, resume)
    try:
        return restore.run(verify=verify)
    except BlocksnapError as error:
        restore.end(error)
        sentences = (error.effect, target.leftover, _REPOSITORY_SAFE)
        error.effect = " ".join(sentence for sentence in sentences if sentence)
        raise
    except BaseException as error:
        restore.end(error)
        raise
    finally:
        if resume is not None:
            resume.close()


class _Written(NamedTuple):
    # One piece: its part of the content sum, its bytes, and between where they lie. And what of it
    # a sync brings to the disk: blocks, and their part of the sum.
    content_sum: int
    size: int
    start: int
    end: int
    synced: tuple[U64, int]


class _Releases:
    """Keeps what waits in memory for the disk at a few times ``RELEASE_SIZE``.

    A thread of its own hands it to the disk, as that takes for as long as the disk's queue is full.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._size = 0
        self._start, self._end = _NOWHERE
        self._before = _NOWHERE
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="release")
        self._under_way: Future[None] | None = None

    def note(self, piece: _Written) -> None:
        """Take note of what was written, and release it when there is enough."""
        self._size += piece.size
        self._start, self._end = min(self._start, piece.start), max(self._end, piece.end)
        if self._size < RELEASE_SIZE:
            return
        if self._under_way is not None:
            self._under_way.result()
        # What was still on its way to the disk the last time can be given back now.
        start, end = min(self._start, self._before[0]), max(self._end, self._before[1])
        self._under_way = self._thread.submit(self._target.release, start, end)
        self._before = self._start, self._end
        self._start, self._end = _NOWHERE
        self._size = 0

    def close(self) -> None:
        """Wait until nothing is handed on any more."""
        self._thread.shutdown()


class _Restore:
    """One restore in progress."""

    def __init__(
        self,
        image: PointImage,
        target: Target,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        clock: Callable[[], float],
        resume: Resume | None,
    ) -> None:
        self._image = image
        self._target = target
        self._cancelled = cancelled
        self._resume = resume
        self._is_written = False
        self._sum = ContentSum(image.block_size)
        gap_size = sum(gaps.size for gaps in gaps_of(image))
        self._data_size = image.size - gap_size
        self._work = self._data_size + (gap_size if target.kind == "device" else 0)
        self._meter = Meter(self._work, progress, clock)

    def run(self, *, verify: bool) -> RestoreReport:
        image, target, meter = self._image, self._target, self._meter
        if verify:
            meter.expect(2 * self._work)
        kept = self._prepare()
        meter.enter("write")
        written = self._write(image if kept is None else self._rest(kept), keep_sum=verify)
        meter.enter("sync")
        target.sync()
        if self._resume is not None:
            self._resume.flush()
        self._is_written = True
        write_s = meter.elapsed_s
        read = self._verify() if verify else 0
        target.finish()
        if self._resume is not None:
            self._resume.forget()
        meter.enter("done")
        kept_size = kept.size if kept else 0
        return RestoreReport(
            path=target.path,
            kind=target.kind,
            size=image.size,
            written_bytes=written,
            hole_bytes=image.size - written - kept_size,
            verified_bytes=image.size if verify else 0,
            read_bytes=read,
            write_s=write_s,
            verify_s=meter.elapsed_s - write_s,
            kept_bytes=kept_size,
        )

    def end(self, error: BaseException) -> None:
        """Let the target go after ``error``, so that it can be gone on with if that makes sense."""
        resume, target = self._resume, self._target
        # Of a damaged point nothing stays: another one will be taken.
        is_stopped = isinstance(error, (CancelledRunError, StoreError))
        is_stopped = is_stopped and not isinstance(error, StoreMissingError)
        if resume is not None and is_stopped and not self._is_written:
            with suppress(HostError):  # what is remembered by then counts
                target.sync()
                resume.flush()
        if resume is not None:
            resume.close()
        if resume is not None and is_stopped and not self._is_written and resume.has_batches:
            target.suspend()
            return
        target.abandon()
        if resume is not None:
            with suppress(HostError):  # it tells of nothing that is still there
                resume.forget()

    def _prepare(self) -> Kept | None:
        """Get the target ready; return what of it is right already."""
        image, target, meter, resume = self._image, self._target, self._meter, self._resume
        batches: list[Batch] = resume.found() if resume is not None and target.has_old else []
        meter.enter("clear")
        target.clear(image.size, [] if batches else gaps_of(image), self._advance)
        if resume is None:
            return None
        if not batches:
            resume.begin(target)
            return None
        meter.enter("check")
        meter.advance(self._work - self._data_size)  # the gaps, which are clear
        with target.reader() as reader:
            kept = resume.keep(batches, reader, image.block_size, self._look)
        self._sum.add_sum(kept.content_sum)
        meter.advance(kept.size)
        return kept

    def _rest(self, kept: Kept) -> PointImage:
        """Return the image without what is there already."""
        assert self._resume is not None
        rest = self._resume.without(kept.starts, kept.lengths)
        self._data_size = rest.size - sum(gaps.size for gaps in gaps_of(rest))
        return rest

    def _look(self, _size: int) -> None:
        if self._cancelled():
            raise CancelledRunError("The restore was cancelled.")

    def _write(self, image: PointImage, *, keep_sum: bool) -> int:
        """Write all content of ``image``; return its bytes."""
        written = 0

        def work(blocks: U64, data: memoryview) -> _Written:
            needs_sum = keep_sum or self._resume is not None
            part = content_sum(blocks, data, image.block_size) if needs_sum else 0
            return self._write_piece(blocks, data, part)

        # Closed before the target is let go: nobody may write to it then.
        with (
            closing(_Releases(self._target)) as releases,
            closing(image.each_piece(work)) as done,
        ):
            for piece in done:
                self._sum.add_sum(piece.content_sum)
                written += piece.size
                releases.note(piece)
                if self._resume is not None:
                    self._resume.note(*piece.synced, piece.size, self._target)
                self._advance(piece.size)
        if written != self._data_size:
            raise ChecksumError(
                f"The point lists {self._data_size} bytes of content, its packs gave {written}.",
                hint="The repository is damaged: verify it, and restore another point.",
            )
        return written

    def _write_piece(self, blocks: U64, data: memoryview, part: int) -> _Written:
        """Write blocks, the last one cut at the image's end; tell what a sync makes of them."""
        size, end = self._image.block_size, self._image.size
        written = write_piece(self._target, blocks, data, block_size=size, end=end)
        first, last = int(blocks.min()), int(blocks.max())
        synced = blocks, part
        held_back = self._target.held_back if self._resume is not None else 0
        if first * size < held_back:
            synced = _from(held_back // size, blocks, data, size)
        return _Written(part, written, first * size, min((last + 1) * size, end), synced)

    def _verify(self) -> int:
        """Read the target back; return the bytes read."""
        ranges = self._target.ranges()
        size = sum(end - start for start, end in ranges)
        self._meter.expect(self._work + size)
        self._meter.enter("verify")
        with self._target.reader() as reader:
            found = read_sum(reader, ranges, self._image.block_size, self._advance)
            if found != self._sum.value():
                raise self._differs(reader)
        return size

    def _differs(self, reader: DirectReader) -> ChecksumError:
        places = [f"{start}-{end}" for start, end in differences(self._image, reader)]
        where = f" It differs first at bytes {', '.join(places)}." if places else ""
        return ChecksumError(
            f"{self._target.path} does not give back what was written to it.{where}",
            hint="Its disk or memory is damaged, or somebody else wrote to it: restore elsewhere.",
        )

    def _advance(self, size: int) -> None:
        self._meter.advance(size)
        if self._cancelled():
            raise CancelledRunError("The restore was cancelled.")


def _from(first: int, blocks: U64, data: memoryview, size: int) -> tuple[U64, int]:
    """Return those of ``blocks`` from ``first`` on, and the sum of their ``size`` bytes each."""
    after = blocks >= np.uint64(first)
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)[after]
    return blocks[after], content_sum(blocks[after], rows.reshape(-1).data, size)
