"""Reads the COW device of a live snapshot, past every cache. Edge.

The kernel reads and writes a COW device below the page cache of the block
device. A page of it that is once cached is never refreshed: buffered reads and
mappings give a mixture of old and new areas, and with it exceptions that never
were. So block devices are read with O_DIRECT only, into page-aligned anonymous
memory; where that is refused, the device is refused. A device error is then an
``OSError`` to translate, not a SIGBUS.

A regular file (an image of a COW device, or the file under a loop device) has
one cache that every reader and writer shares, so where its file system knows
no O_DIRECT it is read through that cache.

The descriptor must be gone before the snapshot is removed: lvremove fails half
way while anybody holds the COW device open. ``close`` lets it go whatever
views of the buffer are still alive, since the buffer is no mapping of the
device.

All methods block on the disk, also for long while the device is suspended:
call them in a thread. A lock lets one call at a time use the buffer.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import stat
import threading
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import (
    BlocksnapError,
    DeviceMapperError,
    HostError,
    NotAllowedError,
    VolumeError,
)
from blocksnapd.parse import cow_format
from blocksnapd.parse.exception_table import (
    ENTRIES_MAX,
    HEADER_READ_SIZE,
    READ_SIZE_MAX,
    ExceptionTable,
    read_table,
)
from blocksnapd.runtime.owned import Closing

if TYPE_CHECKING:
    from blocksnapd.model import U64

ALIGNMENT = 4096  # suits every logical block size in use; chunks are multiples of it


class CowDevice(Closing):
    """An open COW device, a context manager. Blocking; see the module for what that implies."""

    def __init__(self, path: str) -> None:
        """Open ``path``, a block device or a regular file, for direct reads.

        Raises:
            VolumeError: nothing is there, or it is neither a block device nor a regular file.
            NotAllowedError: the rights to read it are missing.
            DeviceMapperError: the block device cannot be read past the page cache.
            HostError: any other failure to open it.
        """
        self.path = path
        self._lock = threading.Lock()
        self._buffer = mmap.mmap(-1, READ_SIZE_MAX)
        self._fd = _open_direct(path)

    def close(self) -> None:
        """Let the file descriptor go, after a call that is reading; a second close does nothing."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    @property
    def size(self) -> int:
        """Bytes of the device now; lvextend may have changed it since the last look."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise self._failed("find the size of", error) from error

    def header(self) -> cow_format.Header:
        """Read the header afresh.

        Raises:
            CowFormatError: it is none, see ``Header.unpack``.
            HostError: the device failed.
        """
        with self._lock:
            return cow_format.Header.unpack(self._read(0, min(self.size, HEADER_READ_SIZE), 1, 0))

    def check_valid(self) -> None:
        """Read the header afresh and refuse a snapshot that the kernel gave up.

        Raises:
            CowInvalidError: the kernel gave the snapshot up.
            CowFormatError: the header is damaged. HostError: the device failed.
        """
        self.header().require_valid()

    def table(self, *, origin_size: int, entries_max: int = ENTRIES_MAX) -> ExceptionTable:
        """Read the whole exception table afresh; the snapshot was valid before and after.

        Raises:
            CowInvalidError: the kernel gave the snapshot up, before or during the reading.
            CowFormatError: the bytes are not a persistent snapshot's, see ``read_table``.
            HostError: the device failed.
        """
        with self._lock:
            table = read_table(
                self._read, self.size, origin_size=origin_size, entries_max=entries_max
            )
        self.check_valid()
        return table

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the device's bytes from ``offset``.

        Any alignment works. Where offset, length and the memory of ``view`` are multiples of 4096
        nothing is copied; otherwise the bytes pass through a buffer of 1 MiB.

        Raises:
            HostError: the device failed, or ended before ``view`` was full.
        """
        view = view.cast("B")
        with self._lock:
            if len(view) and (offset | len(view) | _address(view)) % ALIGNMENT == 0:
                self._read_exact(offset, view, len(view))
            else:
                self._read_through(offset, view)

    def read_chunks(self, chunks: U64, view: memoryview, *, chunk_size: int) -> None:
        """Fill ``view`` with the saved data of COW chunks ``chunks``, back to back, in that order.

        Neighbours are read at once: ``new`` of a table in allocation order gives long reads.

        Args:
            chunks: COW chunk numbers, such as a slice of ``ExceptionTable.new``.
            view: ``len(chunks) * chunk_size`` bytes. The chunk saved for a partial last chunk of
                the origin holds leftovers behind the origin's end.
            chunk_size: Bytes per chunk.

        Raises:
            HostError: the device failed or ended before the last chunk.
        """
        breaks = np.flatnonzero(chunks[1:] != chunks[:-1] + np.uint64(1)) + 1
        bounds = [0, *breaks.tolist(), len(chunks)]
        for start, stop in itertools.pairwise(bounds):
            if start < stop:
                piece = view[start * chunk_size : stop * chunk_size]
                self.read_into(int(chunks[start]) * chunk_size, piece)

    def _read(self, offset: int, length: int, count: int, stride: int) -> memoryview:
        """Serve ``StridedRead`` out of the buffer; offset and stride are aligned, the lock is held.

        With a ``count`` above 1 the pieces are whole areas and thereby aligned, too.
        """
        buffer = memoryview(self._buffer)
        for index in range(count):
            at = index * length
            piece = buffer[at : at + _round_up(length)]
            self._read_exact(offset + index * stride, piece, length)
        return buffer[: count * length].toreadonly()

    def _read_through(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            skip = (offset + done) % ALIGNMENT
            length = min(len(view) - done, READ_SIZE_MAX - ALIGNMENT)
            piece = self._read(offset + done - skip, skip + length, 1, 0)
            view[done : done + length] = piece[skip:]
            done += length

    def _read_exact(self, offset: int, view: memoryview, wanted: int) -> None:
        """Read into aligned ``view`` until its first ``wanted`` bytes are there."""
        done = 0
        while done < wanted:
            try:
                got = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                raise self._failed(f"read {wanted} bytes at offset {offset} of", error) from error
            if got == 0:
                raise self._ended(offset + done, offset + wanted)
            done += got

    def _failed(self, what: str, error: OSError) -> HostError:
        return HostError(
            f"Could not {what} the COW device {self.path}: {error.strerror}.",
            effect="The list of changes could not be read; no point was made, the volume is safe.",
            hint="See the kernel log for the disk under it; the next run tries again.",
        )

    def _ended(self, offset: int, wanted: int) -> HostError:
        return HostError(
            f"The COW device {self.path} ends at offset {offset}, wanted bytes up to {wanted}.",
            effect="The list of changes could not be read; no point was made, the volume is safe.",
            hint="Something made the device smaller: never shrink a snapshot. It must be replaced.",
        )


def _open_direct(path: str) -> int:
    """Return a descriptor whose reads never meet a stale page."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
            raise VolumeError(
                f"{path} is neither a block device nor a file.",
                effect="No change list can be read from it.",
                hint="Name the COW device of a snapshot, such as /dev/mapper/VG-SNAPSHOT-cow.",
            )
        try:
            return os.open(path, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL or not stat.S_ISREG(kind):
                raise
            return os.open(path, flags)
    except OSError as error:
        raise _not_opened(path, error) from error


def _not_opened(path: str, error: OSError) -> BlocksnapError:
    """Return the error of ours for a failed open."""
    message = f"Could not open the COW device {path}: {error.strerror}."
    effect = "The list of changes could not be read; no point was made, the volume is safe."
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        hint = "The snapshot is gone or not active: see lvs -a and dmsetup ls."
        return VolumeError(message, effect=effect, hint=hint)
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "Run as root, or as a member of the group that may read block devices."
        return NotAllowedError(message, effect=effect, hint=hint)
    if error.errno == errno.EINVAL:
        hint = "Its driver refuses direct reads, and cached ones would show an outdated list."
        return DeviceMapperError(message, effect=effect, hint=hint)
    return HostError(message, effect=effect, hint="See the kernel log; the next run tries again.")


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address


def _round_up(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
