"""A throw-away layer over a disk that takes its writes: file systems with a log mount on it. Edge.

    written blocks      in a file without a name, at their own offsets; sparse as long as it goes
    which they are      a bitmap, one bit per block; a page of it takes memory once it is written

A block is in the file whole or not at all: what a small write leaves out is copied from below.
A block set to zero is a hole in the file with its bit set. Nothing outlives the process.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import tempfile
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np

from blocksnapd.errors import HostError
from blocksnapd.export.disk import cut, union
from blocksnapd.model import U8, Extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.export.disk import Disk

BLOCK_SIZE: Final = 4096
RESERVE: Final = 256 << 20  # of the disk that the file lies on: left free for others
RESERVE_CHECK_SIZE: Final = 8 << 20  # so much is written between two looks at it
_ZEROS: Final = bytes(1 << 20)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Overlay:
    """A writable ``Disk`` over ``below``. Thread-safe.

    Args:
        below: what is read where nothing was written; stays open when this closes.
        directory: where the file lies, without a name.
        reserve: bytes to leave free there; writes fail with ENOSPC before.

    Raises:
        HostError: no file can be made there.
    """

    def __init__(self, below: Disk, directory: str, *, reserve: int = RESERVE) -> None:
        self._below = below
        self.size = below.size
        self.block_size = max(below.block_size, BLOCK_SIZE)
        self._directory = directory
        self._reserve = reserve
        self._unchecked = RESERVE_CHECK_SIZE  # look before the first write
        self._bits = np.zeros(-(-self.size // BLOCK_SIZE) // 8 + 1, dtype=np.uint8)
        self._lock = Lock()
        try:
            self._file = tempfile.TemporaryFile(dir=directory, prefix="blocksnap-overlay-")  # noqa: SIM115
            os.ftruncate(self._file.fileno(), self.size)
        except OSError as error:
            raise HostError(
                f"no file for the overlay of {self.size} bytes in {directory}: {error.strerror}",
                effect="The export cannot be written to; nothing was changed.",
                hint="Name a directory on a disk with room: TMPDIR=DIR, or export without "
                "--writable.",
            ) from error

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view``: from the file what was written, from below what was not."""
        for start, end, is_ours in self._parts(offset, offset + len(view)):
            piece = view[start - offset : end - offset]
            if is_ours:
                self._read_file(start, piece)
            else:
                self._below.read_into(start, piece)

    def data_extents(self, start: int, end: int) -> Extents:
        """Return where there may be content: what was written, zeros too, and what is below."""
        flags = self._flags(start // BLOCK_SIZE, -(-end // BLOCK_SIZE))
        edges = np.flatnonzero(np.diff(flags, prepend=0, append=0)).astype(np.uint64)
        edges = (edges + np.uint64(start // BLOCK_SIZE)) * np.uint64(BLOCK_SIZE)
        ours = cut(Extents(edges[::2], edges[1::2]), start, end)
        return union(ours, self._below.data_extents(start, end))

    def write(self, offset: int, data: bytes) -> None:
        """Write; see ``Disk``."""
        view = memoryview(data)
        with self._lock:
            self._make_room(len(view))
            for start, end in self._whole_and_broken(offset, offset + len(view)):
                if (end - start) % BLOCK_SIZE or start % BLOCK_SIZE:
                    self._copy_up(start // BLOCK_SIZE)
                self._write_file(start, view[start - offset : end - offset])
            self._mark(offset, offset + len(view))

    def zero(self, offset: int, length: int) -> None:
        """Make a range zero; only what was written there before costs any writing."""
        with self._lock:
            for start, end in self._whole_and_broken(offset, offset + length):
                if (end - start) % BLOCK_SIZE or start % BLOCK_SIZE:
                    self._copy_up(start // BLOCK_SIZE)
                self._blank(start, end)
            self._mark(offset, offset + length)

    def close(self) -> None:
        """Throw away what was written."""
        self._file.close()

    # --- ranges --------------------------------------------------------------------------------

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Yield (start, end, whether it is in the file) of the parts between two bytes."""
        first = start // BLOCK_SIZE
        flags = self._flags(first, -(-end // BLOCK_SIZE))
        if not len(flags):
            return
        turns = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
        for low, high in itertools.pairwise(turns):
            yield (
                max(start, (first + low) * BLOCK_SIZE),
                min(end, (first + high) * BLOCK_SIZE),
                bool(flags[low]),
            )

    @staticmethod
    def _whole_and_broken(start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the blocks that a range begins or ends inside of, and all those between as one."""
        head = min(end, -(-start // BLOCK_SIZE) * BLOCK_SIZE)
        tail = max(head, end // BLOCK_SIZE * BLOCK_SIZE)
        for low, high in ((start, head), (head, tail), (tail, end)):
            if low < high:
                yield low, high

    def _flags(self, first: int, end: int) -> U8:
        """Return 1 for each block from ``first`` to ``end`` that is in the file, else 0."""
        bits = self._bits[first // 8 : -(-end // 8)]
        at = first % 8
        return np.unpackbits(bits, bitorder="little")[at : at + end - first]

    def _mark(self, start: int, end: int) -> None:
        if start == end:
            return
        first, last = start // BLOCK_SIZE, -(-end // BLOCK_SIZE)
        low, high = -(-first // 8), last // 8
        if low >= high:
            for block in range(first, last):
                self._bits[block // 8] |= 1 << block % 8
            return
        self._bits[low:high] = 0xFF
        for block in (*range(first, low * 8), *range(high * 8, last)):
            self._bits[block // 8] |= 1 << block % 8

    # --- the file ------------------------------------------------------------------------------

    def _copy_up(self, block: int) -> None:
        if self._flags(block, block + 1)[0]:
            return
        start = block * BLOCK_SIZE
        data = bytearray(min(BLOCK_SIZE, self.size - start))
        self._below.read_into(start, memoryview(data))
        self._write_file(start, memoryview(data))
        self._mark(start, start + len(data))

    def _read_file(self, offset: int, view: memoryview) -> None:
        while len(view):
            count = os.preadv(self._file.fileno(), [view], offset)
            if not count:
                raise HostError(
                    f"the overlay ends at {offset} of {self.size} bytes",
                    effect="What was written to the export is lost; the point is whole.",
                )
            offset, view = offset + count, view[count:]

    def _write_file(self, offset: int, view: memoryview) -> None:
        while len(view):
            count = os.pwrite(self._file.fileno(), view, offset)
            offset, view = offset + count, view[count:]

    def _blank(self, start: int, end: int) -> None:
        if _punch(self._file.fileno(), start, end - start):
            return
        # Most of the range was never written: it is a hole already and stays one.
        fd, at = self._file.fileno(), start
        while at < end:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            stop = min(end, os.lseek(fd, at, os.SEEK_HOLE)) if at < end else end
            while at < stop:
                at += os.pwrite(fd, memoryview(_ZEROS)[: stop - at], at)

    def _make_room(self, size: int) -> None:
        self._unchecked += size
        if self._unchecked < RESERVE_CHECK_SIZE:
            return
        found = os.statvfs(self._directory)
        if found.f_bavail * found.f_frsize < self._reserve + size:
            raise OSError(errno.ENOSPC, f"less than {self._reserve} bytes are free")
        self._unchecked = 0


def _punch(fd: int, offset: int, length: int) -> bool:
    """Give the space of a range back; False: this file system cannot."""
    kept = _PUNCH_HOLE | _KEEP_SIZE
    return bool(_LIBC.fallocate(fd, kept, ctypes.c_int64(offset), ctypes.c_int64(length)) == 0)
