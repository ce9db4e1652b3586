"""Objects on their way to a bucket: kept in a file without a name until they are whole. Edge.

A bucket takes an object whole or in parts that are finished on a condition; either way its sender
should have all of it before the first byte is sent, as what comes over a network may end at any
byte, or be damaged. The file has no name: whatever becomes of this process, nothing stays.

What is sent is held in memory: no more than ``SENDING_SIZE_MAX`` bytes at once, or one object that
is larger.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

import xxhash

from blocksnapd.errors import ChecksumError, StoreError, StoreFullError
from blocksnapd.receive.roots import NOTHING
from blocksnapd.runtime import durable
from blocksnapd.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SENDING_SIZE_MAX: Final = 128 * MIB
WAIT_S_MAX: Final = 60.0
_SMALL_SIZE: Final = MIB  # waits for nobody: points and lists must not queue behind packs
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Spool:
    """The directory ``path``, made when first needed. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sending = 0
        self._ended = threading.Condition()

    def check(self) -> None:
        """Make sure that files can be made there; raises StoreError."""
        with self.told():
            os.close(self._opened())

    def check_room(self, size: int) -> None:
        """Raise StoreFullError if ``size`` bytes have no room."""
        with self.told():
            os.makedirs(self._path, 0o700, exist_ok=True)
            found = os.statvfs(self._path)
        free = found.f_bavail * found.f_frsize
        if size > free:
            raise self._full(f"{format_size(free)} are free, {format_size(size)} are to come")

    def begin(self, name: str, send: Callable[[bytes], int]) -> SpooledUpload:
        """Return an object that ``send`` is given once it is whole."""
        with self.told():
            return SpooledUpload(self, self._opened(), name, send)

    @contextmanager
    def turn(self, size: int) -> Iterator[None]:
        """Wait until ``size`` bytes may be held in memory.

        Raises:
            StoreError: those before took too long.
        """
        if size <= _SMALL_SIZE:
            yield
            return
        with self._ended:
            if not self._ended.wait_for(lambda: self._fits(size), WAIT_S_MAX):
                raise StoreError(
                    f"{format_size(self._sending)} are on their way from the receiver to its "
                    f"bucket already, and did not arrive in {WAIT_S_MAX:.0f} s",
                    effect=NOTHING,
                    hint="It is tried again. If it lasts, look after the receiver's line to the "
                    "bucket.",
                )
            self._sending += size
        try:
            yield
        finally:
            with self._ended:
                self._sending -= size
                self._ended.notify_all()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell errors of the disk as a StoreError."""
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._full(error.strerror or str(error)) from error
            raise StoreError(
                f"the receiver's spool {self._path} cannot be used: {error.strerror or error}",
                effect=NOTHING,
                hint="On the receiver, look at [receive] spool: its owner, its mode and its disk.",
            ) from error

    def _fits(self, size: int) -> bool:
        return not self._sending or self._sending + size <= SENDING_SIZE_MAX

    def _full(self, why: str) -> StoreFullError:
        return StoreFullError(
            f"no room in the receiver's spool {self._path}: {why}",
            effect=NOTHING,
            hint="On the receiver, free room there or name another directory under [receive] "
            "spool; the next cycle tries again.",
        )

    def _opened(self) -> int:
        os.makedirs(self._path, 0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._path, buffering=0) as file:
            return os.dup(file.fileno())


class SpooledUpload:
    """An object on its way. Thread-safe; all of it may block."""

    def __init__(self, spool: Spool, fd: int, name: str, send: Callable[[bytes], int]) -> None:
        self._spool, self._fd, self._name, self._send = spool, fd, name, send
        self._lock = threading.Lock()  # nothing closes a descriptor that is used
        self._size, self._hasher = 0, xxhash.xxh3_128()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def write(self, *parts: bytes | memoryview) -> None:
        """Add ``parts``."""
        with self._spool.told(), self._lock:
            self._size += durable.write_parts(self._fd, parts)
            for part in parts:
                self._hasher.update(part)

    def publish(self) -> int:
        """Send it; return its size."""
        with self._lock, self._spool.turn(self._size):
            return self._send(self._whole())

    def _whole(self) -> bytes:
        with self._spool.told(), open(self._fd, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            data = file.read(self._size) if self._size else b""
        if xxhash.xxh3_128_digest(data) != self._hasher.digest():
            raise ChecksumError(
                f"{self._name} was damaged in the receiver's spool",
                effect=NOTHING,
                hint="It is tried again; look at the disk of [receive] spool and at the memory.",
            )
        return data
