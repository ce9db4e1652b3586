"""Is there anything in the log of an XFS that its blocks do not show yet? Pure.

Every 512 bytes of the log begin with the number of the lap in which they were written (or, where a
record begins, with a magic number and then the lap): the head is where that number falls. The log
is clean if the last record before it says that the file system was unmounted. It is as good as
clean if all there is to replay are changes of the superblock: so a freeze leaves it, and
device-mapper freezes a mounted file system for a snapshot.

Source: Linux, fs/xfs/xfs_log_recover.c (``xlog_find_head``, ``xlog_check_unmount_rec``),
fs/xfs/libxfs/xfs_log_format.h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from blocksnapd.files.source import Source
    from blocksnapd.files.xfs_maps import Geometry

SECTOR: Final = 512
RECORD_SIZE_MAX: Final = 256 << 10
RECORDS_MAX: Final = 8  # a freeze leaves two
_MAGIC: Final = 0xFEEDBABE
_UNMOUNT, _COMMIT, _CONTINUED = 0x20, 0x02, 0x0C
_TRANSACTION: Final = 0x5452414E
_BUFFER: Final = 0x123C
_LAPS_PER_HEADER: Final = 32 << 10


def is_clean(source: Source, geometry: Geometry) -> bool:
    """Say whether nothing is to be replayed. On doubt, and for a log elsewhere, no.

    Raises:
        What ``Source.read_at`` does.
    """
    count = geometry.log_blocks * geometry.block_size // SECTOR
    start = geometry.address(geometry.log_start) * geometry.block_size
    if not geometry.log_start or count < 8 or start + count * SECTOR > source.size:
        return False
    log = _Log(source, start, count)
    head = log.head()
    last = log.record_before(head)
    if last is None:
        return False
    at, record = last
    if log.is_end(at, record, head, _is_unmount):
        return True
    (tail,) = struct.unpack_from(">I", record, 28)
    for _ in range(RECORDS_MAX):
        if not log.is_end(at, record, head, _is_superblock_only):
            return False
        if at == tail:
            return True
        head, last = at, log.record_before(at)
        if last is None:
            return False
        at, record = last
    return False


class _Log:
    def __init__(self, source: Source, start: int, count: int) -> None:
        self._source, self._start, self._count = source, start, count

    def head(self) -> int:
        """Return the sector behind the newest record: the first of an earlier lap."""
        first = self._lap(0)
        low, high = 0, self._count  # at low it is the first lap's, at high not
        if self._lap(self._count - 1) == first:
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            if self._lap(middle) == first:
                low = middle
            else:
                high = middle
        return high

    def record_before(self, head: int) -> tuple[int, bytes] | None:
        """Return where the newest record begins, and its header; None: not within reach."""
        for back in range(1, min(self._count, 2 * RECORD_SIZE_MAX // SECTOR)):
            at = (head - back) % self._count
            data = self._sector(at)
            if struct.unpack_from(">I", data)[0] == _MAGIC:
                return at, data
        return None

    def is_end(self, at: int, record: bytes, head: int, says: _Says) -> bool:
        """Say whether the record reaches to ``head`` and is one that ``says`` so."""
        version, length = struct.unpack_from(">II", record, 8)
        (size,) = struct.unpack_from(">I", record, 320)
        headers = -(-size // _LAPS_PER_HEADER) if version & 2 and size > _LAPS_PER_HEADER else 1
        sectors = -(-length // SECTOR)
        if length > RECORD_SIZE_MAX or headers > 8:
            return False
        if (at + headers + sectors) % self._count != head:
            return False
        body = bytearray()
        for index in range(sectors):
            sector = bytearray(self._sector((at + headers + index) % self._count))
            if index < 64:  # where the lap number stands, the header keeps what it replaced
                sector[:4] = record[44 + 4 * index : 48 + 4 * index]
            body += sector
        return says(bytes(body[:length]), struct.unpack_from(">I", record, 40)[0])

    def _lap(self, number: int) -> int:
        first, second = struct.unpack_from(">II", self._sector(number))
        return int(second if first == _MAGIC else first)

    def _sector(self, number: int) -> bytes:
        return self._source.read_at(self._start + number * SECTOR, SECTOR)


def _is_unmount(body: bytes, count: int) -> bool:
    return count == 1 and len(body) >= 12 and bool(body[9] & _UNMOUNT)


def _is_superblock_only(body: bytes, count: int) -> bool:
    """Say whether the ``count`` parts are one transaction that changes the superblock alone."""
    parts, at = [], 0
    for _ in range(count):
        if at + 12 > len(body):
            return False
        (length,) = struct.unpack_from(">I", body, at + 4)
        flags = body[at + 9]
        if flags & _CONTINUED or at + 12 + length > len(body):
            return False
        if length:
            parts.append(body[at + 12 : at + 12 + length])
        at += 12 + length
    if not parts or not body[9] & 1 or not flags & _COMMIT or len(parts) < 3:
        return False
    if len(parts[0]) < 16 or len(parts[1]) < 16:
        return False
    if struct.unpack_from("<I", parts[0])[0] != _TRANSACTION:
        return False
    kind, size, _, _, block = struct.unpack_from("<HHHHq", parts[1])
    return bool(kind == _BUFFER and block == 0 and len(parts) == 1 + size)


if TYPE_CHECKING:
    from collections.abc import Callable

    _Says = Callable[[bytes, int], bool]
