"""A volume held open for a restore in place: nobody mounts it meanwhile. Edge.

Writes go through the page cache. A block that a snapshot still shares is copied out before it is
overwritten, which takes several waits for the COW device; the kernel does that for many blocks at
once when they come from its cache, and one by one when each is written past it. The cache is
brought to the disk and given back every ``RELEASE_SIZE``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import HostError, NotAllowedError, RefusedError, VolumeError
from blocksnapd.restore import device_use
from blocksnapd.runtime import durable
from blocksnapd.runtime.direct_reader import DirectReader
from blocksnapd.runtime.owned import OwnedFd
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from blocksnapd.model import Extents

RELEASE_SIZE: Final = 64 * MIB
_ZERO_STEP: Final = 64 * MIB
_SMALL: Final = MIB  # zeros of so few bytes wait in the cache with the rest
_BLKZEROOUT: Final = 0x127F
_BLKROGET: Final = 0x125E
_NO_ZEROOUT: Final = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)
_UNTOUCHED: Final = "Nothing was written to it."


class HeldVolume(OwnedFd):
    """A block device that this process alone may mount or write to. Several threads may write."""

    def __init__(self, path: str) -> None:
        """Hold ``path``, and bring to the disk what others left in its cache.

        Raises:
            RefusedError: it is in use, or read-only. VolumeError: there is no such device.
            NotAllowedError: the rights are missing. HostError: it failed.
        """
        self.path = path
        self._fd = _open(path)
        self._lock = threading.Lock()
        self._unsynced = 0
        try:
            if found := device_use.users(path):
                raise _in_use(path, found)
            if struct.unpack("i", fcntl.ioctl(self._fd, _BLKROGET, bytes(4)))[0]:
                raise RefusedError(f"{path} is read-only.", effect=_UNTOUCHED)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            self.sync()
        except BaseException:
            self.close()
            raise

    @property
    def dm_uuid(self) -> str:
        """What device-mapper knows it by, such as ``LVM-…``; empty if that is nothing."""
        number = os.fstat(self._fd).st_rdev
        try:
            path = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/dm/uuid"
            with open(path, encoding="ascii", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return ""

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``.

        Raises:
            HostError: the device failed.
        """
        size = len(data)
        at = offset
        while data:
            try:
                done = os.pwrite(self._fd, data, at)
            except OSError as error:
                raise self._failed("writing", at, error) from error
            data, at = data[done:], at + done
        self._release(size)

    def zero(self, extents: Extents) -> None:
        """Make bytes zero; raises as ``write``."""
        for start, end in zip(extents.starts.tolist(), extents.ends.tolist(), strict=True):
            for at in range(start, end, _ZERO_STEP):
                self._zero(at, min(end - at, _ZERO_STEP))

    def sync(self) -> None:
        """Bring everything written to the disk and give its memory back."""
        try:
            durable.sync_file(self._fd)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise self._failed("syncing", 0, error) from error

    def reader(self) -> DirectReader:
        """Open it for reading past the page cache."""
        try:
            return DirectReader(self.path, self.size)
        except OSError as error:
            raise self._failed("reading back", 0, error) from error

    def _zero(self, offset: int, length: int) -> None:
        if length > _SMALL:
            try:
                fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, length))
            except OSError as error:
                if error.errno not in _NO_ZEROOUT:
                    raise self._failed("zeroing", offset, error) from error
            else:
                return
        for at in range(offset, offset + length, MIB):
            self.write(at, memoryview(bytes(min(MIB, offset + length - at))))

    def _release(self, size: int) -> None:
        with self._lock:
            self._unsynced += size
            is_due = self._unsynced >= RELEASE_SIZE
            if is_due:
                self._unsynced = 0
        if is_due:
            self.sync()

    def _failed(self, what: str, offset: int, error: OSError) -> HostError:
        return HostError(
            f"{self.path} failed {what} offset {offset}: {error.strerror}.",
            hint="See the kernel log for the disk under it.",
        )


def _open(path: str) -> int:
    try:
        if not stat.S_ISBLK(os.stat(path).st_mode):
            raise VolumeError(f"{path} is no block device.", effect=_UNTOUCHED)
        return os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            found = device_use.users(path) or ["held by another program or by the kernel"]
            raise _in_use(path, found) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotAllowedError(
                f"You may not write to {path}.", effect=_UNTOUCHED, hint="Run it as root."
            ) from error
        raise VolumeError(
            f"{path} cannot be opened: {error.strerror}.", effect=_UNTOUCHED,
            hint="See 'lvs': is the volume there and active?",
        ) from error  # fmt: skip


def _in_use(path: str, found: list[str]) -> RefusedError:
    return RefusedError(
        f"{path} is in use: {', '.join(found)}.", effect=_UNTOUCHED,
        hint="Unmount it and stop what uses it; then the same command again. Without stopping "
        "anything: restore to another place, or export the point.",
    )  # fmt: skip
