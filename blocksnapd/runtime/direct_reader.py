"""Reads a file or a block device past the page cache, where that is possible. Edge.

A block device under a mounted file system may show outdated pages to a buffered reader, and a
backup that reads through the cache throws out what the applications of the host had in it. So
both are read with O_DIRECT, into page-aligned memory. A regular file whose file system knows no
O_DIRECT (tmpfs, some network file systems) is read through the cache, which every reader and
writer of it shares, and the pages are given back after each read.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading

import numpy as np

from blocksnapd.errors import HostError
from blocksnapd.runtime.owned import OwnedFd
from blocksnapd.units import MIB

ALIGNMENT = 4096  # suits every logical block size in use
_BUFFER_SIZE = MIB


class DirectReader(OwnedFd):
    """A ``BlockReader`` over a path, a context manager. Blocking; several threads may read."""

    def __init__(self, path: str, size: int, *, effect: str = "") -> None:
        """Open ``path`` for reading.

        Args:
            path: A regular file or block device.
            size: Bytes that count; what a growing file has behind them is not read.
            effect: What a failing read means for the data, for the error.

        Raises:
            OSError: it cannot be opened, or a block device refuses direct reads.
        """
        self.path = path
        self._size = size
        self._effect = effect
        self._buffer = mmap.mmap(-1, _BUFFER_SIZE)
        self._buffer_lock = threading.Lock()
        self._fd, self._is_direct = _open(path)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._size

    def stat(self) -> os.stat_result:
        """Return the facts of what is open, which may by now have another name or none."""
        return os.fstat(self._fd)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from ``offset``.

        Any alignment works. Where offset, length and memory are multiples of 4096 nothing is
        copied; otherwise the bytes pass through a buffer of 1 MiB, one thread at a time.

        Raises:
            HostError: the device failed, or ended before ``view`` was full.
        """
        view = view.cast("B")
        if offset + len(view) > self._size:
            raise self._ended(self._size, offset + len(view))
        whole = len(view) // ALIGNMENT * ALIGNMENT
        if not self._is_direct:
            whole = len(view)
        elif not whole or (offset | _address(view)) % ALIGNMENT:
            whole = 0
        self._read_exact(offset, view[:whole], whole)
        if whole < len(view):
            with self._buffer_lock:
                self._read_through(offset + whole, view[whole:])

    def _read_through(self, offset: int, view: memoryview) -> None:
        buffer = memoryview(self._buffer)
        done = 0
        while done < len(view):
            skip = (offset + done) % ALIGNMENT
            length = min(len(view) - done, _BUFFER_SIZE - skip)
            # Longer than needed, up to the next border: a file's end cuts it short by itself.
            border = -(-(skip + length) // ALIGNMENT) * ALIGNMENT
            self._read_exact(offset + done - skip, buffer[:border], skip + length)
            view[done : done + length] = buffer[skip : skip + length]
            done += length

    def _read_exact(self, offset: int, view: memoryview, wanted: int) -> None:
        """Read into ``view`` until its first ``wanted`` bytes are there."""
        done = 0
        while done < wanted:
            try:
                got = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                raise HostError(
                    f"Reading {self.path} at offset {offset + done} failed: {error.strerror}.",
                    effect=self._effect,
                    hint="See the kernel log for the disk under it.",
                ) from error
            if got == 0:
                raise self._ended(offset + done, offset + wanted)
            done += got
        if not self._is_direct:
            os.posix_fadvise(self._fd, offset, done, os.POSIX_FADV_DONTNEED)

    def _ended(self, offset: int, wanted: int) -> HostError:
        return HostError(
            f"{self.path} ends at offset {offset}, wanted bytes up to {wanted}.",
            effect=self._effect,
            hint="Something made it smaller in the meantime.",
        )


def _open(path: str) -> tuple[int, bool]:
    """Return a descriptor, and whether it reads past the page cache."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT), True
    except OSError as error:
        if error.errno != errno.EINVAL or not stat.S_ISREG(os.stat(path).st_mode):
            raise
    return os.open(path, flags), False


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address
