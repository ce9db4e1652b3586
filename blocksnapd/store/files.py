"""A local directory as a place for objects. Edge: the only file access of the store.

    <root>/<name>              an object, mode 0600, never changed
    <root>/v/<vol>/.tmp/       unfinished writes of the volume's writer
    <root>/.tmp/               unfinished writes of anything else
    <root>/v/<vol>/.lock       the writer's lock: flock, which the kernel releases

Names with a part that starts with a dot are never objects. See FORMAT.md § 2.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import unquote, urlsplit

from blocksnapd.errors import (
    BusyError,
    ObjectExistsError,
    RepositoryFormatError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.runtime import durable
from blocksnapd.runtime.owned import open_locked
from blocksnapd.store.names import check_name, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

TEMP_DIR = ".tmp"
LOCK_NAME = ".lock"
BEGIN_SYNC_SIZE = 4 << 20
_TEMP_AGE_S_MAX = 86400.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_local(url: str) -> bool:
    """Return whether ``url`` is written like a directory of this host."""
    return "://" not in url or urlsplit(url).scheme == "file"


def local_path(url: str) -> str:
    """Return the directory that ``url``, a path or ``file:///path``, names.

    Raises:
        UsageError: it is something else.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return os.path.abspath(unquote(parts.path))
    if "://" in url or not url:
        raise UsageError(
            f"{url!r} is not a place this version can keep a repository in",
            hint="Give a directory, /path or file:///path, or a bucket, s3://bucket/prefix.",
        )
    return os.path.abspath(url)


class LocalStore:
    """An ObjectStore in a directory. Thread-safe."""

    def __init__(self, root: str) -> None:
        """Open the directory ``root``, which exists; clear unfinished writes older than a day.

        Raises:
            StoreMissingError: it does not exist.
        """
        self._root = os.path.abspath(root)
        if not os.path.isdir(self._root):
            raise StoreMissingError(
                f"there is no directory {self._root}",
                effect="Nothing was read or written; the snapshot goes on tracking.",
                hint="Mount it or correct the URL; blocksnapd init makes a new repository.",
            )
        self._clear_temps(os.path.join(self._root, TEMP_DIR), time.time() - _TEMP_AGE_S_MAX)

    @property
    def url(self) -> str:
        """The place, for people."""
        return self._root

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Create an object of ``parts`` joined; durable on return. Return its size."""
        with self.begin(name) as upload:
            for part in parts:
                upload.write(part)
            return upload.publish()

    def begin(self, name: str) -> Upload:
        """Return a new object of no bytes yet, to be written to and published; raises as ``put``.

        Whoever leaves its ``with`` without publishing leaves nothing behind.
        """
        path = self._path(name)
        with self._told("write", name):
            self._check_mounted()
            temp = os.path.join(self._temp_dir(name), durable.temp_name())
            return Upload(path, temp, lambda: self._told("write", name))

    def get(self, name: str, *, size_max: int) -> bytes:
        """Return a whole object of at most ``size_max`` bytes."""
        with self._told("read", name), open(self._path(name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > size_max:
                raise RepositoryFormatError(f"{name} has {size} bytes, more than {size_max}")
            return _read_at(file.fileno(), 0, size)

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of an object from ``offset``, or fewer where it ends."""
        with self._told("read", name), open(self._path(name), "rb", buffering=0) as file:
            there = max(0, os.fstat(file.fileno()).st_size - offset)
            return _read_at(file.fileno(), offset, min(size, there))

    def size(self, name: str) -> int:
        """Return the bytes of an object."""
        with self._told("read", name):
            return os.stat(self._path(name)).st_size

    def age(self, name: str) -> float:
        """Return for how many seconds the object has been there."""
        with self._told("read", name):
            return time.time() - os.stat(self._path(name)).st_mtime

    def exists(self, name: str) -> bool:
        """Return whether the object is there."""
        with self._told("read", name):
            self._check_mounted()
            try:
                os.stat(self._path(name))
            except FileNotFoundError:
                return False
            return True

    def list_names(self, prefix: str) -> list[str]:
        """Return all object names that start with ``prefix``, sorted."""
        with self._told("list", prefix):
            self._check_mounted()
            return sorted(self._walk(prefix))

    def children(self, prefix: str) -> list[str]:
        """Return the sorted next parts of names under ``prefix``."""
        with self._told("list", prefix):
            self._check_mounted()
            return sorted(entry.name for entry in self._scan(prefix))

    def delete(self, name: str) -> None:
        """Remove an object durably; none there is success."""
        with self._told("remove", name):
            durable.remove(self._path(name))

    def settle(self, prefix: str) -> None:
        """Make durable every name in the folder ``prefix``, and all above it."""
        path = self._root
        with self._told("sync", prefix):
            durable.sync_dir(path)
            for part in prefix.strip("/").split("/"):
                path = os.path.join(path, part)
                if not os.path.isdir(path):
                    return
                durable.sync_dir(path)

    def free_size(self) -> int | None:
        """Return how many bytes there is room for, to this user."""
        with self._told("look at", "the directory"):
            found = os.statvfs(self._root)
            return found.f_bavail * found.f_frsize

    def lock(self, prefix: str) -> FileLock:
        """Become the one writer under ``prefix``; clear what earlier writers left unfinished."""
        directory = os.path.join(self._root, prefix)
        with self._told("lock", prefix):
            self._check_mounted()
            durable.make_dirs(directory)
            fd = open_locked(os.path.join(directory, LOCK_NAME))
            if fd is None:
                raise another_writer(f"in {directory}")
            self._clear_temps(os.path.join(directory, TEMP_DIR), time.time() + 1)
            return FileLock(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, check_name(name))

    def _check_mounted(self) -> None:
        # Never make the tree anew where a file system went missing from under it.
        if not os.path.isdir(self._root):
            raise StoreMissingError(
                f"the directory {self._root} is gone",
                effect="Nothing was written; the snapshot goes on tracking.",
                hint="Mount it again.",
            )

    def _temp_dir(self, name: str) -> str:
        parts = name.split("/")
        inside = parts[:2] if parts[0] == "v" and len(parts) > 2 else []
        if parts[2:3] == ["l"] or parts[-1].startswith("r"):
            inside = []  # maintenance writes these: a writer that begins clears only its own
        path = os.path.join(self._root, *inside, TEMP_DIR)
        durable.make_dirs(path)
        return path

    def _scan(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, prefix)) as entries:
                return [e for e in entries if not e.name.startswith(".") and is_name(e.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _walk(self, prefix: str) -> Iterator[str]:
        for entry in self._scan(prefix):
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield name

    def _clear_temps(self, directory: str, before: float) -> None:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
        except OSError:
            return  # they cost room, nothing else; the next writer tries again

    @contextmanager
    def _told(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._tell(error, verb, name)

    def _tell(self, error: OSError, verb: str, name: str) -> NoReturn:
        cause = f"could not {verb} {name} in {self._root}: {error.strerror or error}"
        if isinstance(error, FileExistsError):
            raise ObjectExistsError(
                f"{name} exists in {self._root}",
                effect="It was not touched: names are written once.",
                hint="Look at the newest point; another run may have committed it.",
            ) from error
        if error.errno in _NO_ROOM:
            raise StoreFullError(
                f"no room: {cause}",
                effect="Nothing was committed; earlier points are untouched; the snapshot goes "
                "on tracking.",
                hint=f"Free room in {self._root} or make it larger; the next cycle tries again.",
            ) from error
        if isinstance(error, FileNotFoundError):
            raise StoreMissingError(
                f"there is no {name} in {self._root}",
                effect="What it held cannot be read.",
                hint="If the file system is not mounted, mount it; else run verify.",
            ) from error
        raise StoreError(
            cause,
            effect="Nothing was committed by this call; earlier points are untouched; the "
            "snapshot goes on tracking.",
            hint="See the kernel's log for the disk, and the owner and mode of the directory.",
        ) from error


class Upload:
    """An object on its way: bytes in, then its name. Thread-safe; all of it may block."""

    def __init__(
        self, path: str, temp: str, telling: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._path, self._temp, self._telling = path, temp, telling
        self._lock = threading.Lock()  # nothing closes a descriptor that is written to
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(temp, flags, 0o600)
        self._size = self._begun = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, *parts: bytes | memoryview) -> None:
        """Add ``parts``; raises as ``put``."""
        with self._telling(), self._lock:
            self._size += durable.write_parts(self._fd, parts)
            if self._size - self._begun >= BEGIN_SYNC_SIZE:
                # The disk writes while the rest is on its way: the sync then waits for little.
                durable.begin_sync(self._fd, self._begun, self._size - self._begun)
                self._begun = self._size

    def publish(self) -> int:
        """Make it an object, durable on return; return its size. Raises as ``put``."""
        with self._telling(), self._lock:
            durable.sync_file(self._fd)
            durable.make_dirs(os.path.dirname(self._path))
            durable.publish(self._temp, self._path)
            return self._size

    def close(self) -> None:
        """End it; what was not published is gone. A second call does nothing."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            os.close(fd)
            with suppress(OSError):  # published, or costs room until the next writer clears it
                os.unlink(self._temp)


def another_writer(where: str) -> BusyError:
    """Return the error for a volume that somebody writes already."""
    return BusyError(
        f"another writer is at work {where}",
        effect="Nothing was written; the snapshot goes on tracking.",
        hint="Wait for it, or stop the other daemon that protects this volume.",
    )


class FileLock:
    """A held ``flock``."""

    def __init__(self, fd: int, *, is_everywhere: bool = True) -> None:
        self._fd = fd
        self.is_everywhere = is_everywhere

    def release(self) -> None:
        """Let go; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _read_at(fd: int, offset: int, size: int) -> bytes:
    if not size:
        return b""  # beyond the end an offset may be one that no system call takes
    data = os.pread(fd, size, offset)
    if len(data) == size:
        return data
    pieces = [data]
    while data and (size := size - len(data)) > 0:
        offset += len(data)
        data = os.pread(fd, size, offset)
        pieces.append(data)
    return b"".join(pieces)
