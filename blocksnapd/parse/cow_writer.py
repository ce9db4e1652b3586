"""Writes a COW device in the kernel's own persistent format, for it to show or merge. Edge.

    begin    the chunks of a part are numbered and go into the exception table
    write    their content, in any order; what is never written is zero
    finish   the rest of the table, everything on the disk, then the header: before that it is none

Chunks are numbered ascending by their place on the origin: neighbours there are neighbours here,
so that the kernel reads and merges them with long requests. The device needs the areas up to the
one that ends the table, also when the last one is exactly full (``cow_format.bytes_needed``).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from blocksnapd.blocks import neighbours
from blocksnapd.errors import HostError
from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_format import Header
from blocksnapd.runtime import durable
from blocksnapd.runtime.owned import OwnedFd
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from blocksnapd.model import U64

RELEASE_SIZE: Final = 64 * MIB
STEP_CHUNKS: Final = 1 << 16


class CowWriter(OwnedFd):
    """A COW file or device that is being made; ``write`` may be called by several threads."""

    def __init__(self, path: str, *, chunk_size: int, size: int, is_new: bool = True) -> None:
        """Open it.

        Args:
            path: a file that does not exist yet; or with ``is_new`` False a device, all zeros.
            chunk_size: bytes per chunk.
            size: bytes of the file, at least ``cow_format.bytes_needed`` for what it will hold.
            is_new: whether to make a file.

        Raises:
            HostError: it cannot be made or opened. ValueError: no such chunk size.
        """
        self.path, self._chunk_size, self._size = path, chunk_size, size
        self._header = Header(chunk_size).pack()
        self._count = 0
        self._runs: tuple[U64, U64, U64] = (_none(), _none(), _none())
        self._area: tuple[U64, U64] = (_none(), _none())
        self._unsynced = 0
        self._lock = threading.Lock()
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if is_new else 0) | os.O_EXCL
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._failed("opening", error) from error
        if is_new:
            os.ftruncate(self._fd, size)

    @property
    def count(self) -> int:
        """How many exceptions there are so far."""
        return self._count

    def begin(self, starts: U64, lengths: U64) -> None:
        """Number the chunks of these runs, ascending and above all earlier ones.

        Raises:
            HostError: it could not be written. ValueError: they do not fit.
        """
        before = np.cumsum(lengths) - lengths + np.uint64(self._count)
        self._runs = starts, lengths, before
        total = self._count + int(lengths.sum(dtype=np.uint64))
        if cow_format.bytes_needed(total, self._chunk_size) > self._size:
            raise ValueError(f"{total} exceptions do not fit {self._size} bytes")
        for low in range(self._count, total, STEP_CHUNKS):
            index = np.arange(low, min(low + STEP_CHUNKS, total), dtype=np.uint64)
            at = np.searchsorted(before, index, side="right") - 1
            self._list(starts[at] + (index - before[at]), self._data_chunks(index))
        self._count = total

    def write(self, chunks: U64, data: memoryview) -> None:
        """Write the content of ``chunks`` of the last ``begin``, back to back in ``data``.

        Raises:
            HostError: it could not be written. ValueError: one was not begun.
        """
        starts, lengths, before = self._runs
        at = np.searchsorted(starts, chunks, side="right") - 1
        if not (len(at) and at.min() >= 0 and (chunks - starts[at] < lengths[at]).all()):
            raise ValueError("content of chunks that are not in the table")
        within = chunks - starts[at]
        places = self._data_chunks(before[at] + within)
        for first, last in neighbours(places):
            piece = data[first * self._chunk_size : last * self._chunk_size]
            self._put(int(places[first]) * self._chunk_size, piece)

    def finish(self) -> None:
        """Write what is left of the table, then the header.

        Raises:
            HostError: it could not be written.
        """
        old, new = self._area
        area = self._count // cow_format.entries_per_area(self._chunk_size)
        self._put_area(area, old, new)
        self._sync()
        self._put(0, memoryview(self._header.ljust(self._chunk_size, b"\0")))
        self._sync()

    def _data_chunks(self, index: U64) -> U64:
        """Return ``cow_format.data_chunk`` of each."""
        per_area = np.uint64(cow_format.entries_per_area(self._chunk_size))
        return np.asarray(np.uint64(2) + index + index // per_area)

    def _list(self, old: U64, new: U64) -> None:
        """Add entries to the table; whole areas are written."""
        per_area = cow_format.entries_per_area(self._chunk_size)
        old, new = np.concatenate([self._area[0], old]), np.concatenate([self._area[1], new])
        area = area_of(int(new[0]), self._chunk_size)
        full = len(old) // per_area * per_area
        for low in range(0, full, per_area):
            part = slice(low, low + per_area)
            self._put_area(area + low // per_area, old[part], new[part])
        self._area = old[full:], new[full:]

    def _put_area(self, area: int, old: U64, new: U64) -> None:
        data = cow_format.pack_area(old, new, self._chunk_size)
        at = cow_format.area_chunk(area, self._chunk_size) * self._chunk_size
        self._put(at, memoryview(data))

    def _put(self, offset: int, data: memoryview) -> None:
        size = len(data)
        try:
            while data:
                done = os.pwrite(self._fd, data, offset)
                data, offset = data[done:], offset + done
        except OSError as error:
            raise self._failed("writing", error) from error
        with self._lock:
            self._unsynced += size
            is_due = self._unsynced >= RELEASE_SIZE
        if is_due:
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            self._unsynced = 0
        try:
            durable.sync_file(self._fd)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise self._failed("syncing", error) from error

    def _failed(self, what: str, error: OSError) -> HostError:
        return HostError(
            f"{self.path} failed {what}: {error.strerror}.",
            hint="Make room on its disk, or see the kernel log for it.",
        )


def area_of(chunk: int, chunk_size: int) -> int:
    """Return which area lists the data in COW chunk ``chunk``."""
    return (chunk - 2) // (cow_format.entries_per_area(chunk_size) + 1)


def _none() -> U64:
    return np.zeros(0, dtype=np.uint64)
