"""What a session has put, noted on the source: after a cut none of it is sent again. Edge.

    session log   header, then a part for each pack that is durable at its place
    header        <size u32> <xxh3_64 of the rest> JSON of ``Session``
    part          <MAGIC> <size of record u16> <blocks u32> <first, last u64> <xxh3_64 of the body>
                  <xxh3_64 of what stands before>, then the body: the record that names the pack,
                  block numbers u64, identities 16 bytes each, both by slot

Going on is no new session to a collection: it has the epoch, the age and the point id of the one
that was cut, so whatever holds for one that was merely slow holds for it (``collection_rules.py``).
What is not of this very session, or of this boot of the host, is dropped: that costs time, no data.
A pack is found by block number and identity, and asked for at its place before it is relied on.
All integers little-endian.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import xxhash

from blocksnapd.model import HASH_SIZE, NOWHERE, U8, U64
from blocksnapd.runtime import durable
from blocksnapd.store.collection_rules import SESSION_S_MAX
from blocksnapd.store.epoch_watch import session_clock
from blocksnapd.store.pack_records import pack_ref_record, unpack_ref_record
from blocksnapd.store.runs import SLOT_BITS

if TYPE_CHECKING:
    from blocksnapd.model import PointHead
    from blocksnapd.store.point_format import PackRef

AGE_S_MAX = SESSION_S_MAX - 86400.0  # what goes on must have time left to commit
_HEADER_SIZE_MAX = 4096
_MAGIC = 0x4B50_5342
_HEADER = struct.Struct("<IQ")
_PART = struct.Struct("<IHIQQQ")
_SUM = struct.Struct("<Q")
_PART_SIZE = _PART.size + _SUM.size
_ROW_SIZE = 8 + HASH_SIZE
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_KEPT = 4  # packs whose rows are in memory, 200 KiB each


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which session it is; ``began`` is of the clock that ``boot_id`` started."""

    repository_id: str
    volume_id: str
    point_id: str
    seq: int
    block_size: int
    epoch: int = 0
    began: float = 0.0
    boot_id: str = ""

    def is_same(self, other: Session) -> bool:
        """Return whether it writes the same point after the same one."""
        plain = {"epoch": 0, "began": 0.0, "boot_id": ""}
        return msgspec.structs.replace(self, **plain) == msgspec.structs.replace(other, **plain)


@dataclass(frozen=True, slots=True)
class _Part:
    # Where a pack's body lies in the log, and which blocks it has.
    at: int
    record_size: int
    count: int
    first: int
    last: int
    sum: int

    @property
    def end(self) -> int:
        return self.at + self.record_size + self.count * _ROW_SIZE


class SessionLog:
    """The log of one session. ``note`` from any thread, the rest from one.

    ``session`` is the one that was cut, or None: there is nothing to go on from.
    """

    def __init__(self, path: str, wanted: Session, now: float) -> None:
        """Open the log at ``path``; what is not of the session ``wanted`` is removed.

        ``now`` is of ``epoch_watch.session_clock``.
        """
        self._path, self._wanted, self._volume_id = path, wanted, wanted.volume_id
        self._guard = threading.Lock()
        self._fd = -1
        self._end = 0
        self._is_lost = not path
        self._parts: list[_Part] = []
        self._noted: list[str] = []
        self._rows: dict[int, tuple[PackRef, U64, U8] | None] = {}
        self.session: Session | None = None
        try:
            if path:
                self._load(now)
        except (OSError, ValueError, msgspec.MsgspecError, struct.error):
            self._forget()
        self._firsts = np.array([part.first for part in self._parts], dtype=np.uint64)
        self._lasts = np.array([part.last for part in self._parts], dtype=np.uint64)

    @property
    def since(self) -> tuple[int, float] | None:
        """Epoch and beginning of the session to go on from; None: there is none."""
        return None if self.session is None else (self.session.epoch, self.session.began)

    @property
    def names(self) -> list[str]:
        """The packs that it tells of, before the cut and after it."""
        found = (self.ref(index) for index in range(len(self._parts)))
        return [ref.name for ref in found if ref is not None] + self._noted

    def begin(self, epoch: int, began: float) -> None:
        """Learn of the session that begins; of one that goes on it is known."""
        if self.session is None:
            self._wanted = msgspec.structs.replace(
                self._wanted, epoch=epoch, began=began, boot_id=_boot_id()
            )

    def find(self, blocks: U64, hashes: U8) -> U64:
        """Return where the session put blocks before the cut: ``index << 32 | slot`` or NOWHERE.

        Args:
            blocks: ascending, shape (n,).
            hashes: their identities, shape (n, 16).
        """
        found = np.full(len(blocks), NOWHERE)
        if not len(self._parts) or not len(blocks):
            return found
        near = np.flatnonzero((self._firsts <= blocks[-1]) & (self._lasts >= blocks[0]))
        for index in near.tolist():
            rows = self._load_rows(index)
            if rows is None:
                continue
            _, held, identities = rows
            at = np.minimum(np.searchsorted(held, blocks), len(held) - 1)
            same = (held[at] == blocks) & (identities[at] == hashes).all(axis=1)
            found[same] = (np.uint64(index) << SLOT_BITS) | at[same].astype(np.uint64)
        return found

    def ref(self, index: int) -> PackRef | None:
        """Return the pack that ``find`` told of; None: its part of the log is damaged."""
        rows = self._load_rows(index)
        return None if rows is None else rows[0]

    def note(self, ref: PackRef, blocks: U64, hashes: U8) -> bool:
        """Note a pack that is durable at its place; return whether that is durable here.

        A disk that fails or is full loses the log: it costs sending again, nothing else.
        """
        record = pack_ref_record(ref, self._volume_id)
        body = record + blocks.astype("<u8").tobytes() + np.ascontiguousarray(hashes).tobytes()
        head = _PART.pack(
            _MAGIC, len(record), len(blocks), int(blocks[0]), int(blocks[-1]),
            xxhash.xxh3_64_intdigest(body),
        )  # fmt: skip
        part = head + _SUM.pack(xxhash.xxh3_64_intdigest(head)) + body
        with self._guard:
            if self._is_lost:
                return False
            try:
                if self._fd < 0:
                    self._create()
                durable.write_all(self._fd, part)
                durable.sync_file(self._fd)
            except OSError:
                self._is_lost = True
                return False
            self._noted.append(ref.name)
            return True

    def remove(self) -> None:
        """Forget it: its point is committed, or it must not be gone on from."""
        with self._guard:
            self._is_lost = True
            self._close()
            if self._path:
                durable.remove(self._path)

    def close(self) -> None:
        """Let the file go."""
        with self._guard:
            self._is_lost = True
            self._close()

    def _load(self, now: float) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        size = os.fstat(self._fd).st_size
        length, checksum = _HEADER.unpack(os.pread(self._fd, _HEADER.size, 0))
        body = os.pread(self._fd, min(length, _HEADER_SIZE_MAX), _HEADER.size)
        session = msgspec.json.decode(body, type=Session)
        if xxhash.xxh3_64_intdigest(body) != checksum or not session.is_same(self._wanted):
            raise ValueError("another session's")
        if session.boot_id != _boot_id() or not 0 <= now - session.began < AGE_S_MAX:
            raise ValueError("of another boot, or too old")
        self.session, self._end = session, _HEADER.size + length
        while (part := self._part_at(self._end)) is not None and part.end <= size:
            self._parts.append(part)
            self._end = part.end
        # What was torn off in the middle goes, so that the next part follows a whole one.
        os.ftruncate(self._fd, self._end)
        os.lseek(self._fd, self._end, os.SEEK_SET)

    def _part_at(self, at: int) -> _Part | None:
        head = os.pread(self._fd, _PART_SIZE, at)
        if len(head) < _PART_SIZE:
            return None
        (checksum,) = _SUM.unpack(head[_PART.size :])
        magic, record_size, count, first, last, body_sum = _PART.unpack(head[: _PART.size])
        if xxhash.xxh3_64_intdigest(head[: _PART.size]) != checksum or magic != _MAGIC:
            return None
        return _Part(at + _PART_SIZE, record_size, count, first, last, body_sum)

    def _load_rows(self, index: int) -> tuple[PackRef, U64, U8] | None:
        if index not in self._rows:
            if len(self._rows) >= _KEPT:
                del self._rows[next(iter(self._rows))]
            self._rows[index] = self._read_rows(self._parts[index])
        return self._rows[index]

    def _read_rows(self, part: _Part) -> tuple[PackRef, U64, U8] | None:
        try:
            body = os.pread(self._fd, part.end - part.at, part.at)
        except OSError:
            return None
        if xxhash.xxh3_64_intdigest(body) != part.sum:
            return None
        ref = unpack_ref_record(body[: part.record_size], self._volume_id)
        blocks = np.frombuffer(body, "<u8", part.count, part.record_size)
        hashes = np.frombuffer(body, np.uint8, offset=part.record_size + 8 * part.count)
        return ref, blocks, hashes.reshape(-1, HASH_SIZE)

    def _create(self) -> None:
        durable.make_dirs(os.path.dirname(self._path))
        body = msgspec.json.encode(self._wanted)
        header = _HEADER.pack(len(body), xxhash.xxh3_64_intdigest(body)) + body
        durable.replace(self._path, header)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        os.lseek(self._fd, len(header), os.SEEK_SET)

    def _forget(self) -> None:
        self.session, self._parts = None, []
        self._close()
        with contextlib.suppress(OSError):
            durable.remove(self._path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_log(
    path: str, repository_id: str, volume_id: str, point_id: str, base: PointHead | None, size: int
) -> SessionLog:
    """Return the log at ``path`` of the session that writes ``point_id`` after ``base``.

    ``size`` is that of its blocks. Without a path nothing is noted.
    """
    seq = base.seq + 1 if base else 1
    return SessionLog(path, Session(repository_id, volume_id, point_id, seq, size), session_clock())


def _boot_id() -> str:
    with open(_BOOT_ID) as file:
        return file.read().strip()
