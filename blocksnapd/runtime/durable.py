"""Durable files: the only fsync, link and rename in the project. Edge.

A file that one of these functions returned from is on the disk, under its name, whole; a
crash before that leaves the old state. Names that start with ``TEMP_PREFIX`` are unfinished
and may be removed by whoever owns the directory. All functions block: call them in a thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import secrets
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEMP_PREFIX = ".tmp-"

_LIBC: Final = ctypes.CDLL(None)
_SYNC_FILE_RANGE_WRITE: Final = 2
_PARTS_AT_ONCE: Final = 1024  # IOV_MAX of Linux


def temp_name() -> str:
    """Return a new file name that says: unfinished."""
    return f"{TEMP_PREFIX}{secrets.token_hex(8)}"


def make_dirs(path: str, *, mode: int = 0o700) -> None:
    """Create ``path`` and its missing parents, each durable in its parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path.rstrip("/")) or "."
    make_dirs(parent, mode=mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    sync_dir(parent)


def sync_dir(path: str) -> None:
    """Make the names in the directory ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(fd: int) -> None:
    """Make the content of an open file durable."""
    os.fsync(fd)


def begin_sync(fd: int, offset: int, size: int) -> None:
    """Have the disk begin with a part of an open file; only ``sync_file`` makes it durable.

    What goes wrong is not told here: the sync finds it.
    """
    _LIBC.sync_file_range(
        fd, ctypes.c_int64(offset), ctypes.c_int64(size), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
    )


def create_only(path: str, parts: Iterable[bytes | memoryview], *, mode: int = 0o600) -> int:
    """Write a new file; return its size.

    Raises:
        FileExistsError: the name is taken; it was not touched.
        OSError: nothing is under the name.
    """
    temp = os.path.join(os.path.dirname(path), temp_name())
    try:
        size = _write_synced(temp, parts, mode)
        publish(temp, path)
    except BaseException:
        _remove_quietly(temp)
        raise
    return size


def publish(temp: str, path: str) -> None:
    """Give the finished, synced file ``temp`` its create-only name.

    Raises:
        FileExistsError: the name is taken; ``temp`` is left.
    """
    os.link(temp, path)  # unlike rename, link refuses a name that exists
    os.unlink(temp)
    sync_dir(os.path.dirname(path))


def publish_over(temp: str, path: str) -> None:
    """Give the finished, synced file ``temp`` the name ``path``; what was there goes."""
    os.rename(temp, path)
    sync_dir(os.path.dirname(path))


def publish_in(directory: int, temp: bytes, name: bytes, *, replaces: bool) -> None:
    """Give ``temp`` the name ``name``, both in the open directory; a crash may undo it.

    For many files that are copied: nothing is synced, as no copy of files is.

    Raises:
        FileExistsError: the name is taken and nothing is to be replaced; ``temp`` is left.
    """
    if replaces:
        os.rename(temp, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    try:
        link_in(directory, temp, directory, name)
    except FileExistsError:
        raise
    except OSError:
        # FAT and its like know no links: a look and a rename must do.
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(temp, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    os.unlink(temp, dir_fd=directory)


def link_in(old_directory: int, old_name: bytes, directory: int, name: bytes) -> None:
    """Give a file in an open directory another name in another; symbolic links stay such."""
    os.link(old_name, name, src_dir_fd=old_directory, dst_dir_fd=directory, follow_symlinks=False)


def replace(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Put ``data`` under ``path``, whole: a reader sees the old content or the new."""
    temp = os.path.join(os.path.dirname(path), temp_name())
    try:
        _write_synced(temp, [data], mode)
        publish_over(temp, path)
    except BaseException:
        _remove_quietly(temp)
        raise


def append(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Add ``data`` at the end of ``path``; a crash may leave a torn tail, never a torn head."""
    is_new = not os.path.exists(path)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    if is_new:
        sync_dir(os.path.dirname(path))


def remove(path: str) -> None:
    """Remove the name ``path`` durably; none there is success."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_dir(os.path.dirname(path))


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` at the file's position."""
    write_parts(fd, [data])


def write_parts(fd: int, parts: Sequence[bytes | memoryview]) -> int:
    """Write all ``parts`` at the file's position, many at a time; return their bytes."""
    left = deque(memoryview(part).cast("B") for part in parts)
    size = 0
    while left:
        done = os.writev(fd, list(itertools.islice(left, _PARTS_AT_ONCE)))
        size += done
        while left and done >= len(left[0]):
            done -= len(left.popleft())
        if done:
            left[0] = left[0][done:]
    return size


def _write_synced(path: str, parts: Iterable[bytes | memoryview], mode: int) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        for part in parts:
            write_all(fd, part)
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _remove_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # the error that brought us here is the one to tell
