"""Writes over a volume what differs from a point, and reads it back to prove it. Edge.

    compare   what differs is added up, from metadata alone
    write     it is written, in the repository's order
    sync      on the disk
    verify    read past the page cache, it has the content sum of what was written

Whoever calls this holds the volume and knows what it holds now, so a kill anywhere leaves a
mixture that the same call, with what was written meanwhile added to the difference, finishes.
"""

from __future__ import annotations

import itertools
import mmap
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from blocksnapd.errors import CancelledRunError, ChecksumError
from blocksnapd.restore.content_sum import ContentSum, content_sum
from blocksnapd.restore.pieces import write_piece
from blocksnapd.restore.progress import Meter
from blocksnapd.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blocksnapd.model import U64, Extents
    from blocksnapd.ports import BlockReader
    from blocksnapd.restore.progress import Progress

T = TypeVar("T")

STEP_SIZE = 4 * MIB
GAP_SIZE_MAX = 128 * KIB  # reading over a gap is cheaper than another request
PLACES_MAX = 8


class Part(Protocol):
    """What differs in a stretch of the volume."""

    @property
    def extents(self) -> Extents:
        """All of it, in whole blocks, cut at the volume's end."""

    @property
    def zero_extents(self) -> Extents:
        """What has to be zero."""

    def each_piece(self, work: Callable[[U64, memoryview], T]) -> Generator[T, None, None]:
        """Yield what ``work`` returns for each piece of content; see ``ports.PointImage``."""


class Difference(Protocol):
    """What has to be written; asked several times, it tells the same."""

    def parts(self) -> Iterator[Part]:
        """Yield it, ascending."""


class Volume(Protocol):
    """What is written to, see ``held_volume.HeldVolume``."""

    @property
    def path(self) -> str:
        """The device."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``. Several threads may call it."""

    def zero(self, extents: Extents) -> None:
        """Make bytes zero."""

    def sync(self) -> None:
        """Bring everything written to the disk."""

    def reader(self) -> BlockReader:
        """Open it past the page cache."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How large a difference is: its bytes, those of the chunks it touches, its extents."""

    size: int
    chunk_bytes: int
    extents: int


@dataclass(frozen=True, slots=True)
class Written:
    """What was done."""

    written_bytes: int
    write_s: float
    verify_s: float


def measure(difference: Difference, chunk_size: int) -> Measured:
    """Return how large ``difference`` is, in the chunks of the snapshot that copies it out."""
    size = count = chunk_bytes = 0
    unit = np.uint64(chunk_size)
    done = -1
    for part in difference.parts():
        extents = part.extents
        size += extents.size
        count += len(extents)
        firsts = extents.starts // unit
        lasts = (extents.ends - np.uint64(1)) // unit
        # A chunk that two extents share counts once; they ascend, so only neighbours can share.
        shared = int((firsts[1:] == lasts[:-1]).sum()) + int(int(firsts[0]) == done)
        chunk_bytes += (int((lasts - firsts + np.uint64(1)).sum()) - shared) * chunk_size
        done = int(lasts[-1])
    return Measured(size, chunk_bytes, count)


def write_in_place(
    difference: Difference,
    volume: Volume,
    *,
    block_size: int,
    size: int,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Written:
    """Write ``difference`` to ``volume`` and prove it. Blocking, for long: call it in a thread.

    Args:
        difference: what to write.
        volume: held by the caller; stays open.
        block_size: bytes per block.
        size: bytes of the difference, as ``measure`` says.
        progress: called a few times per second.
        cancelled: asked every few MiB whether to stop.
        clock: seconds that never jump.

    Raises:
        CancelledRunError: ``cancelled`` said so. HostError: the volume failed.
        ChecksumError, RepositoryFormatError, StoreError: the repository is damaged or away, or
            the volume does not give back what was written to it.
    """
    return _Writing(difference, volume, block_size, size, progress, cancelled, clock).run()


class _Writing:
    def __init__(
        self,
        difference: Difference,
        volume: Volume,
        block_size: int,
        size: int,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._difference, self._volume, self._block_size = difference, volume, block_size
        self._cancelled = cancelled
        self._sum = ContentSum(block_size)
        self._meter = Meter(2 * size, progress, clock)

    def run(self) -> Written:
        meter = self._meter
        meter.enter("write")
        written = sum(self._write(part) for part in self._difference.parts())
        meter.enter("sync")
        self._volume.sync()
        write_s = meter.elapsed_s
        meter.enter("verify")
        self._verify()
        meter.enter("done")
        return Written(written, write_s, meter.elapsed_s - write_s)

    def _write(self, part: Part) -> int:
        size, end = self._block_size, self._volume.size

        def work(blocks: U64, data: memoryview) -> tuple[int, int]:
            written = write_piece(self._volume, blocks, data, block_size=size, end=end)
            return content_sum(blocks, data, size), written

        zeros, content = part.zero_extents, 0
        self._volume.zero(zeros)
        self._advance(zeros.size)
        # Closed before anybody lets the volume go: nobody may write to it then.
        with closing(part.each_piece(work)) as done:
            for piece_sum, written in done:
                self._sum.add_sum(piece_sum)
                content += written
                self._advance(written)
        if content + zeros.size != part.extents.size:
            raise ChecksumError(
                f"{part.extents.size - zeros.size} bytes of content differ, the packs gave "
                f"{content}.",
                hint="The repository is damaged: verify it, and restore another point.",
            )
        return content + zeros.size

    def _verify(self) -> None:
        with self._volume.reader() as reader:
            found = read_back(self._difference, reader, self._block_size, self._advance)
            if found != self._sum.value():
                raise self._differs(reader)

    def _differs(self, reader: BlockReader) -> ChecksumError:
        found: list[int] = []
        size = self._block_size

        def look(blocks: U64, data: memoryview) -> list[int]:
            own = memoryview(bytearray(size))
            wrong = []
            for at, block in enumerate(blocks.tolist()):
                piece = data[at * size : (at + 1) * size][: self._volume.size - block * size]
                reader.read_into(block * size, own[: len(piece)])
                if own[: len(piece)] != piece:
                    wrong.append(block * size)
            return wrong

        for part in self._difference.parts():
            with closing(part.each_piece(look)) as looked:
                found += itertools.chain.from_iterable(looked)
            if len(found) >= PLACES_MAX:
                break
        where = f", first at bytes {', '.join(map(str, sorted(found)[:PLACES_MAX]))}"
        return ChecksumError(
            f"{self._volume.path} does not give back what was written to it"
            f"{where if found else ''}.",
            hint="Its disk or memory is damaged, or somebody else wrote to it: restore elsewhere.",
        )

    def _advance(self, size: int) -> None:
        self._meter.advance(size)
        if self._cancelled():
            raise CancelledRunError("The restore was cancelled.")


def read_back(
    difference: Difference, reader: BlockReader, block_size: int, advance: Callable[[int], None]
) -> int:
    """Return the content sum of what ``reader`` holds where ``difference`` is.

    Args:
        difference: where to look.
        reader: what to read; its last block may be a partial one.
        block_size: bytes per block.
        advance: called with bytes read; may raise, to stop.

    Raises:
        HostError: reading failed.
    """
    found, buffer = ContentSum(block_size), memoryview(mmap.mmap(-1, STEP_SIZE))
    for part in difference.parts():
        for start, end, blocks in spans(part.extents, block_size):
            data = _read(reader, start, end, buffer, block_size)
            rows = np.frombuffer(data, np.uint8).reshape(-1, block_size)
            wanted = blocks - np.uint64(start // block_size)
            if len(wanted) != len(rows):
                rows = rows[wanted.astype(np.intp)]
            found.add(blocks, rows.reshape(-1).data)
            advance(len(blocks) * block_size)
    return found.value()


def _read(
    reader: BlockReader, start: int, end: int, buffer: memoryview, block_size: int
) -> memoryview:
    length = min(end, reader.size) - start
    reader.read_into(start, buffer[:length])
    whole = -(-length // block_size) * block_size
    buffer[length:whole] = bytes(whole - length)
    return buffer[:whole]


def spans(extents: Extents, block_size: int) -> Iterator[tuple[int, int, U64]]:
    """Yield what to read at once: (start, end, the blocks in it that are wanted), ascending.

    Each is at most ``STEP_SIZE``, and near extents are read together.
    """
    start = end = 0
    wanted: list[U64] = []
    for low, high in zip(extents.starts.tolist(), extents.ends.tolist(), strict=True):
        for at in range(low, high, STEP_SIZE):
            stop = min(at + STEP_SIZE, high)
            if wanted and (at - end > GAP_SIZE_MAX or stop - start > STEP_SIZE):
                yield start, end, np.concatenate(wanted)
                wanted = []
            if not wanted:
                start = at
            end = stop
            wanted.append(np.arange(at // block_size, -(-stop // block_size), dtype=np.uint64))
    if wanted:
        yield start, end, np.concatenate(wanted)
