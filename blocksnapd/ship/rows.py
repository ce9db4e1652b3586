"""Files with a row of constant size for each block, and files of rows to come. Edge.

A file of rows is sparse and written in place. Rows to come lie in a pending file, batch by batch
with a checksum each, until it is known that they hold: it ends with a mark once it is whole.
Blocking: call in a thread.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import xxhash

from blocksnapd.blocks import runs_of
from blocksnapd.errors import StateError
from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.model import U8, U64

_RECORD = struct.Struct("<II16s")  # magic, row count, xxh3_128 of the rows
_MAGIC = 0x70466E50
_END_MAGIC = 0x646E4550
ROWS_MAX = 1 << 18


class RowsUpdate:
    """Rows for a new file, written in place; or for one in use, kept aside until ``apply``.

    One thread. Nothing is durable before ``seal`` returned.
    """

    def __init__(self, path: str, pending: str, *, row_size: int, count: int) -> None:
        """Start; with ``pending`` empty ``path`` is made anew, for ``count`` rows of zeros."""
        self._is_new = not pending
        durable.remove(pending or path)
        self._file: BinaryIO = open(pending or path, "xb")  # noqa: SIM115 - see close
        if self._is_new:
            self._file.truncate(count * row_size)

    def put(self, blocks: U64, rows: U8) -> None:
        """Take the rows of ``blocks``, shape (n, row size)."""
        if not len(blocks):
            return
        if self._is_new:
            write_rows(self._file.fileno(), blocks, rows)
            return
        for at in range(0, len(blocks), ROWS_MAX):
            part = rows[at : at + ROWS_MAX]
            body = blocks[at : at + ROWS_MAX].astype("<u8").tobytes() + part.tobytes()
            self._file.write(_RECORD.pack(_MAGIC, len(part), xxhash.xxh3_128_digest(body)))
            self._file.write(body)

    def seal(self) -> None:
        """Make it all durable, but for the file's name: who names the file syncs that."""
        if not self._is_new:
            self._file.write(_RECORD.pack(_END_MAGIC, 0, bytes(16)))
        self._file.flush()
        durable.sync_file(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Let the file go, sealed or not."""
        self._file.close()


def apply(path: str, pending: str, *, row_size: int, count: int) -> None:
    """Put the rows of a pending file into the file in use; twice is as good as once.

    Raises:
        StateError: the pending file is damaged or was not sealed. OSError: no room, or worse.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, count * row_size)
        for blocks, rows in read_pending(pending, row_size):
            write_rows(fd, blocks, rows)
        durable.sync_file(fd)
    finally:
        os.close(fd)


def read_pending(path: str, row_size: int) -> Iterator[tuple[U64, U8]]:
    """Yield the batches of a pending file: blocks, and their rows of shape (n, ``row_size``).

    Raises:
        StateError: it is damaged or was not sealed.
    """
    with open(path, "rb") as file:
        while True:
            header = file.read(_RECORD.size)
            magic, count, digest = (
                _RECORD.unpack(header) if len(header) == _RECORD.size else (0, 0, b"")
            )
            if magic == _END_MAGIC:
                return
            size = count * (8 + row_size)
            body = file.read(size) if magic == _MAGIC and count <= ROWS_MAX else b""
            if not count or xxhash.xxh3_128_digest(body) != digest:
                raise StateError(f"{path} is damaged before byte {file.tell()}")
            blocks = np.frombuffer(body, dtype="<u8", count=count).astype(np.uint64, copy=False)
            rows = np.frombuffer(body, dtype=np.uint8, offset=count * 8)
            yield blocks, rows.reshape(-1, row_size)


def write_rows(fd: int, blocks: U64, rows: U8) -> None:
    """Put the rows of ``blocks``, shape (n, row size), at their places in an open file."""
    firsts, counts = runs_of(blocks)
    size = rows.shape[1]
    data, at = np.ascontiguousarray(rows).data.cast("B"), 0
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        pwrite_all(fd, data[at : at + count * size], first * size)
        at += count * size


def pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; a disk that gets full says why, not how much.

    Raises:
        OSError: not all of it was written.
    """
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def has_size(path: str, size: int) -> bool:
    """Return whether there is a file of just that size."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False
