"""A restore into a file: sparse, and under its final name only when all of it is there. Edge.

The image grows as ``<name>.blocksnap-partial``, locked. ``finish`` gives it its name; whatever
happens before leaves no file that could be taken for the image, and an old file of that name as
it was. A partial file without a lock was left by a restore that was killed; the next one to that
name goes on with it (see ``resume``) or removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Literal

from blocksnapd.errors import BusyError, HostError, RefusedError
from blocksnapd.runtime import durable
from blocksnapd.runtime.direct_reader import DirectReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocksnapd.model import Extents

PARTIAL_SUFFIX = ".blocksnap-partial"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


class FileTarget:
    """A file that is being restored. Blocking; one thread, but any may write."""

    kind: Literal["file"] = "file"

    held_back = 0  # bytes at the beginning that ``sync`` does not bring to the disk

    def __init__(self, path: str, *, replaces: bool, keeps: bool = False) -> None:
        """Open the partial file beside ``path``: empty, or ``keeps`` the one that is there.

        Raises:
            BusyError: another restore to this path is under way.
            OSError: it cannot be created.
        """
        self.path = path
        self.partial = path + PARTIAL_SUFFIX
        self._replaces = replaces
        self._size = 0
        self._fd, self.has_old = _open_partial(self.partial, keeps=keeps)
        self._leftover = f"Nothing is under {path}."
        if replaces:
            self._leftover = f"{path} is as it was before."

    @property
    def leftover(self) -> str:
        """What a restore that is given up leaves, as a sentence."""
        return self._leftover

    def clear(self, size: int, gaps: Iterable[Extents], advance: Callable[[int], None]) -> None:  # noqa: ARG002
        """Get ready for an image of ``size`` bytes; a new file is zero wherever it has holes."""
        self._size = size
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed("making room for", 0, error) from error

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` at ``offset``.

        Raises:
            HostError: no room, or the disk failed.
        """
        while data:
            try:
                done = os.pwrite(self._fd, data, offset)
            except OSError as error:
                raise self._failed("writing", offset, error) from error
            data, offset = data[done:], offset + done

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
        """Return the byte ranges, ascending, outside of which the file reads as zero."""
        found: list[tuple[int, int]] = []
        end = 0
        while end < self._size:
            try:
                start = os.lseek(self._fd, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only holes from here
                    return found
                raise self._failed("reading back", end, error) from error
            end = os.lseek(self._fd, start, os.SEEK_HOLE)
            found.append((start, end))
        return found

    def reader(self) -> DirectReader:
        """Open what was written, past the page cache."""
        try:
            return DirectReader(self.partial, self._size)
        except OSError as error:
            raise self._failed("reading back", 0, error) from error

    def finish(self) -> None:
        """Give the whole, synced file its name.

        Raises:
            RefusedError: a file of that name appeared meanwhile; the image is kept beside it.
            HostError: the file system failed.
        """
        try:
            if self._replaces:
                _copy_rights(self.path, self._fd)
            _publish(self.partial, self.path, replaces=self._replaces)
        except FileExistsError as error:
            self._leftover = f"The image is whole and is kept as {self.partial}."
            self._close()
            raise RefusedError(
                f"{self.path} appeared while the image was being restored.",
                hint="Move one of the two away and rename the other.",
            ) from error
        except OSError as error:
            raise self._failed("naming", self._size, error) from error
        self._close()

    def abandon(self) -> None:
        """Remove what is unfinished; after ``finish`` this does nothing."""
        if self._fd < 0:
            return
        try:
            os.unlink(self.partial)
        except OSError as error:
            self._leftover += f" The unfinished {self.partial} is left: {error.strerror}."
        self._close()

    def suspend(self) -> None:
        """Let go of what is unfinished, to go on with later; after ``finish`` it does nothing."""
        if self._fd >= 0:
            self._leftover += f" What was written is kept as {self.partial}, to go on with."
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _failed(self, what: str, offset: int, error: OSError) -> HostError:
        hint = "See the kernel log for the disk under it, and restore to another one."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Make room there, or restore elsewhere."
        elif error.errno == errno.EFBIG:
            hint = "Its file system or a limit (ulimit -f) allows no file of this size."
        return HostError(
            f"Restoring to {self.path} failed {what} offset {offset}: {error.strerror}.", hint=hint
        )


def partial_size(path: str) -> int:
    """Return the bytes of disk that an unfinished file for ``path`` takes."""
    try:
        return os.lstat(path + PARTIAL_SUFFIX).st_blocks * 512
    except OSError:
        return 0


def _open_partial(path: str, *, keeps: bool) -> tuple[int, bool]:
    """Return the partial file, locked, and whether it is one that nobody works on any more."""
    try:
        old = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    else:
        try:
            _lock(old, path)
            facts = os.fstat(old)
            is_plain = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
            if keeps and is_plain and facts.st_uid == os.geteuid():
                return os.dup(old), True  # the lock goes with the open file, not its number
            os.unlink(path)
        finally:
            os.close(old)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)  # it holds everything the volume held
    _lock(fd, path)
    return fd, False


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(
            f"Another restore is writing {path}.",
            effect="It goes on undisturbed.",
            hint="Wait for it or cancel it, or choose another name.",
        ) from error


def _copy_rights(path: str, fd: int) -> None:
    """Give the new file the old one's owner and mode; who may not do that keeps it private."""
    facts = os.stat(path)
    try:
        os.fchown(fd, facts.st_uid, facts.st_gid)
    except PermissionError:
        return
    os.fchmod(fd, stat.S_IMODE(facts.st_mode))


def _publish(partial: str, path: str, *, replaces: bool) -> None:
    if not replaces:
        try:
            durable.publish(partial, path)
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        if os.path.lexists(path):  # FAT and its like know no links: a rename must do
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    durable.publish_over(partial, path)
