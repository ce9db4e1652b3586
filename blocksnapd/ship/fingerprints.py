"""What each block of the newest point holds, on the source's own disk. Edge.

    head.json       which point the fingerprints are of, and which file holds them
    next.json       the same for the point under way: sealed before it is committed
    data-<id>       16 bytes per block: its identity; all zero for a zero block. Sparse.
    pending-<id>    the rows of ``data`` that a point under way changes

The order that keeps them true: pending rows (or a whole new data file) and ``next.json`` are
durable before the point is committed; after the commit the rows are applied and ``head.json`` is
replaced. Applying twice equals applying once. So after a crash at any place
:meth:`FingerprintStore.open` gives the fingerprints of the repository's newest point, or none;
a stale fingerprint, which would hide a change, is never used. Blocking: call in a thread.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import numpy as np
import xxhash

from blocksnapd import blocks as block_math
from blocksnapd.errors import StateError
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.runtime import durable
from blocksnapd.ship.spans import blocks_to_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORD = struct.Struct("<II16s")  # magic, row count, xxh3_128 of the rows
_MAGIC = 0x70466E50
_END_MAGIC = 0x646E4550
_ROW_SIZE = 8 + HASH_SIZE
_ROWS_MAX = 1 << 18
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose fingerprints a file holds. ``base_id`` is empty where the file was made afresh."""

    point_id: str
    base_id: str
    file: str
    block_size: int
    block_count: int


class Fingerprints:
    """The fingerprints of one committed point; read only, any thread."""

    def __init__(self, path: str, head: Head) -> None:
        self.head = head
        self._rows = np.memmap(path, dtype=np.uint8, mode="r", shape=(head.block_count, HASH_SIZE))

    def state_sum(self) -> int:
        """Return the :func:`blocksnapd.blocks.state_sum` over all blocks; reads the whole file."""
        total = 0
        for at in range(0, self.head.block_count, _ROWS_MAX):
            rows = np.array(self._rows[at : at + _ROWS_MAX])
            blocks = np.arange(at, at + len(rows), dtype=np.uint64)
            total = block_math.state_add(total, block_math.state_sum(blocks, rows), 0)
        return total

    def get(self, blocks: U64) -> U8:
        """Return the fingerprints of ``blocks``, shape (n, 16); zeros beyond the end."""
        found = np.zeros((len(blocks), HASH_SIZE), dtype=np.uint8)
        inside = blocks < np.uint64(self.head.block_count)
        found[inside] = self._rows[blocks[inside]]
        return found


class Update:
    """Collects what a point under way changes. One thread."""

    def __init__(self, directory: str, head: Head) -> None:
        self._directory = directory
        self._head = head
        self._afresh = not head.base_id
        self._path = os.path.join(directory, head.file if self._afresh else _pending(head))
        durable.remove(self._path)
        self._file: BinaryIO = open(self._path, "xb")  # noqa: SIM115 - see close
        if self._afresh:
            self._file.truncate(head.block_count * HASH_SIZE)

    def put(self, blocks: U64, hashes: U8) -> None:
        """Note that ``blocks`` (ascending) hold content of identity ``hashes``, shape (n, 16)."""
        if self._afresh:
            _write_rows(self._file.fileno(), blocks, hashes)
            return
        for at in range(0, len(blocks), _ROWS_MAX):
            rows = hashes[at : at + _ROWS_MAX]
            body = blocks[at : at + _ROWS_MAX].astype("<u8").tobytes() + rows.tobytes()
            self._file.write(_RECORD.pack(_MAGIC, len(rows), xxhash.xxh3_128_digest(body)))
            self._file.write(body)

    def seal(self) -> None:
        """Make it all durable; call before the point is committed."""
        if not self._afresh:
            self._file.write(_RECORD.pack(_END_MAGIC, 0, bytes(16)))
        self._file.flush()
        durable.sync_file(self._file.fileno())
        self._file.close()
        durable.replace(os.path.join(self._directory, "next.json"), msgspec.json.encode(self._head))

    def close(self) -> None:
        """Let the file go, sealed or not; what is not needed is removed by the next open."""
        self._file.close()


class FingerprintStore:
    """The fingerprint files of one volume."""

    def __init__(self, directory: str) -> None:
        durable.make_dirs(directory)
        self._directory = directory
        self._head_path = os.path.join(directory, "head.json")
        self._next_path = os.path.join(directory, "next.json")

    def begin(
        self, point_id: str, base: Fingerprints | None, *, block_size: int, block_count: int
    ) -> Update:
        """Start the update for a point; without ``base`` all fingerprints are made afresh."""
        file = base.head.file if base else f"data-{point_id}"
        base_id = base.head.point_id if base else ""
        head = Head(point_id, base_id, file, block_size, block_count)
        return Update(self._directory, head)

    def open(self, point_id: str) -> Fingerprints | None:
        """Return the fingerprints of the committed point ``point_id``, or None: there are none.

        Finishes an update that was interrupted after its point was committed, and removes
        what points that never were have left.

        Raises:
            OSError: the disk is full or fails; with more room the next call finishes the update.
        """
        head = _read(self._head_path)
        if head is None or head.point_id != point_id or not self._is_whole(head):
            head = self._finish(point_id, head)
        self._remove_all_but(head)
        if head is None:
            return None
        return Fingerprints(os.path.join(self._directory, head.file), head)

    def drop(self) -> None:
        """Remove all fingerprints; the next point starts afresh."""
        durable.remove(self._head_path)
        self._remove_all_but(None)

    def _finish(self, point_id: str, old: Head | None) -> Head | None:
        new = _read(self._next_path)
        if new is None or new.point_id != point_id:
            return None
        if new.base_id and (old is None or old.point_id != new.base_id):
            return None
        try:
            if new.base_id:
                self._apply(new)
        except StateError:
            return None
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise  # what is sealed stays; without it all would be shipped again
            return None
        if not self._is_whole(new):
            return None
        durable.replace(self._head_path, msgspec.json.encode(new))
        return new

    def _apply(self, head: Head) -> None:
        fd = os.open(os.path.join(self._directory, head.file), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, head.block_count * HASH_SIZE)
            for blocks, hashes in _read_rows(os.path.join(self._directory, _pending(head))):
                _write_rows(fd, blocks, hashes)
            durable.sync_file(fd)
        finally:
            os.close(fd)

    def _is_whole(self, head: Head) -> bool:
        try:
            size = os.stat(os.path.join(self._directory, head.file)).st_size
        except OSError:
            return False
        return size == head.block_count * HASH_SIZE

    def _remove_all_but(self, head: Head | None) -> None:
        kept = {"head.json", head.file} if head else set()
        for name in os.listdir(self._directory):
            if name not in kept:
                durable.remove(os.path.join(self._directory, name))


def _read(path: str) -> Head | None:
    # A head that can't be read is no head: everything is compared afresh, nothing is lost.
    try:
        with open(path, "rb") as file:
            head = msgspec.json.decode(file.read(), type=Head)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return head if os.path.basename(head.file) == head.file else None


def _pending(head: Head) -> str:
    return f"pending-{head.point_id}"


def _write_rows(fd: int, blocks: U64, hashes: U8) -> None:
    firsts, counts = blocks_to_runs(blocks)
    rows, at = np.ascontiguousarray(hashes).data.cast("B"), 0
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        _pwrite_all(fd, rows[at : at + count * HASH_SIZE], first * HASH_SIZE)
        at += count * HASH_SIZE


def _pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    # A disk that gets full takes a part first, and says why only at the next try.
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def _read_rows(path: str) -> Iterator[tuple[U64, U8]]:
    """Yield the batches of a pending file.

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
            body = file.read(count * _ROW_SIZE) if magic == _MAGIC and count <= _ROWS_MAX else b""
            if not count or xxhash.xxh3_128_digest(body) != digest:
                raise StateError(f"{path} is damaged before byte {file.tell()}")
            blocks = np.frombuffer(body, dtype="<u8", count=count).astype(np.uint64, copy=False)
            hashes = np.frombuffer(body, dtype=np.uint8, offset=count * 8)
            yield blocks, hashes.reshape(-1, HASH_SIZE)
