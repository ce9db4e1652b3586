"""A restore onto a block device: nothing old shines through, nothing half looks whole. Edge.

The device is held exclusively, so that nobody mounts it meanwhile. Its first MiB, where file
systems, partition tables and LVM keep the marks they are known by, is zeroed before anything
else and written after everything else is on the disk: a restore that was killed leaves a device
that nothing takes for a whole one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Literal

from blocksnapd.errors import ChecksumError, HostError
from blocksnapd.runtime import durable
from blocksnapd.runtime.direct_reader import DirectReader
from blocksnapd.units import MIB, SECTOR_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocksnapd.model import Extents

HEAD_SIZE = MIB
_ZERO_STEP = 64 * MIB  # between looks at the clock and at the operator's wish to stop
_BLKZEROOUT = 0x127F
_NO_ZEROOUT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)


class _HeldBackReader(DirectReader):
    """A device as it will be once the bytes held back in ``head`` are on it."""

    def __init__(self, path: str, size: int, head: bytearray) -> None:
        super().__init__(path, size)
        self._head = head

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``, see ``DirectReader``."""
        super().read_into(offset, view)
        held = self._head[offset : offset + len(view)]
        view[: len(held)] = held


class DeviceTarget:
    """A block device that is being overwritten. Blocking; one thread, but any may write."""

    kind: Literal["device"] = "device"

    def __init__(self, path: str, *, is_new: bool = False) -> None:
        """Open ``path`` for this restore alone; of a new one what the image leaves is zeroed.

        Raises:
            OSError: EBUSY when somebody else holds it; or it cannot be opened.
        """
        self.path = path
        self._is_new = is_new
        self._size = 0
        self._head = bytearray()
        self._touched = False
        self.has_old = True  # whether it is what a killed restore left, its journal tells
        self._leftover = f"{path} is as it was before."
        self._fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)

    @property
    def leftover(self) -> str:
        """What a restore that is given up leaves, as a sentence."""
        return self._leftover

    @property
    def held_back(self) -> int:
        """How many bytes at the beginning ``sync`` does not bring to the disk."""
        return len(self._head)

    def clear(self, size: int, gaps: Iterable[Extents], advance: Callable[[int], None]) -> None:
        """Get ready for an image of ``size`` bytes, zero where it has ``gaps``.

        ``advance`` is called with the bytes zeroed and may raise, to stop.

        Raises:
            HostError: the device failed.
        """
        self._size = size
        self._head = bytearray(min(size, HEAD_SIZE))
        self._touched = True
        self._leftover = (
            f"{self.path} holds an unfinished image; its beginning is blank, so that nothing "
            "takes it for a whole one."
        )
        self._zero(0, len(self._head))
        self.sync()
        for part in gaps:
            for start, end in zip(part.starts.tolist(), part.ends.tolist(), strict=True):
                self._zero_all(start, end, advance)
        if self._is_new:  # the disk under it had other tenants
            self._zero_all(size, os.lseek(self._fd, 0, os.SEEK_END), lambda _: None)

    def _zero_all(self, start: int, end: int, advance: Callable[[int], None]) -> None:
        for at in range(start, end, _ZERO_STEP):
            stop = min(at + _ZERO_STEP, end)
            self._zero(max(at, len(self._head)), stop)
            advance(stop - at)

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``; the device's beginning is kept for ``finish``.

        Raises:
            HostError: the device failed.
        """
        if offset < len(self._head):
            inside = data[: len(self._head) - offset]
            self._head[offset : offset + len(inside)] = inside
            data, offset = data[len(inside) :], offset + len(inside)
        self._pwrite(offset, data)

    def release(self, start: int, end: int) -> None:
        """Start bringing to the disk what was written there, give back the memory of what is."""
        os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Bring everything written to the disk and give its memory back."""
        try:
            durable.sync_file(self._fd)
        except OSError as error:
            raise self._failed("syncing", self._size, error) from error
        self.release(0, self._size)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the byte ranges where something other than zero may be: all of it."""
        return [(0, self._size)] if self._size else []

    def reader(self) -> DirectReader:
        """Open what was written, past the page cache; the beginning comes from memory."""
        try:
            return _HeldBackReader(self.path, self._size, self._head)
        except OSError as error:
            raise self._failed("reading back", 0, error) from error

    def finish(self) -> None:
        """Write the beginning, sync it, and read it back.

        Raises:
            HostError: the device failed. ChecksumError: it gave something else back.
        """
        self._pwrite(0, memoryview(self._head))
        self.sync()
        if self._head_on_disk() != self._head:
            raise ChecksumError(
                f"{self.path} does not give back what was written to its first bytes.",
                hint="The device or its controller is damaged: restore to another one.",
            )
        self._close()

    def abandon(self) -> None:
        """Blank the device's beginning and let it go; after ``finish`` this does nothing."""
        if self._fd < 0:
            return
        try:
            if self._touched:
                self._zero(0, len(self._head))
                self.sync()
        except HostError as error:
            self._leftover = f"{self.path} holds an unfinished image. {error.message}"
        self._close()

    def suspend(self) -> None:
        """As ``abandon``: its beginning is blank, what follows can be gone on with."""
        if self._fd >= 0:
            self.abandon()
            self._leftover += " What was written stays; the same restore goes on with it."

    def _head_on_disk(self) -> memoryview:
        view = memoryview(bytearray(len(self._head)))
        try:
            with DirectReader(self.path, len(view)) as reader:
                reader.read_into(0, view)
        except OSError as error:
            raise self._failed("reading back", 0, error) from error
        return view

    def _zero(self, start: int, end: int) -> None:
        """Zero ``[start, end)``; ``start`` is a block's, ``end`` may be an image's in a sector."""
        last = end // SECTOR_SIZE * SECTOR_SIZE
        if start < last and self._zero_out(start, last - start):
            start = last
        self._write_zeros(start, end)

    def _zero_out(self, offset: int, length: int) -> bool:
        """Let the kernel zero whole sectors; return whether it could."""
        try:
            fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, length))
        except OSError as error:
            if error.errno in _NO_ZEROOUT:
                return False
            raise self._failed("zeroing", offset, error) from error
        return True

    def _write_zeros(self, start: int, end: int) -> None:
        zeros = memoryview(bytes(min(MIB, max(0, end - start))))
        for at in range(start, end, MIB):
            self._pwrite(at, zeros[: end - at])

    def _pwrite(self, offset: int, data: memoryview) -> None:
        while data:
            try:
                done = os.pwrite(self._fd, data, offset)
            except OSError as error:
                raise self._failed("writing", offset, error) from error
            data, offset = data[done:], offset + done

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _failed(self, what: str, offset: int, error: OSError) -> HostError:
        return HostError(
            f"Restoring to {self.path} failed {what} offset {offset}: {error.strerror}.",
            hint="See the kernel log for the device, and restore to another one.",
        )
