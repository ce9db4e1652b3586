"""Partition tables: GPT, and those of MS-DOS with their chains of logical partitions. Pure.

Source: UEFI specification, chapter 5; Linux, block/partitions/msdos.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.source import Source

SECTOR_SIZES: Final = (512, 4096)
PARTITIONS_MAX: Final = 256
_TABLE_AT: Final = 446
_SIGNATURE: Final = b"\x55\xaa"
_ENTRY = struct.Struct("<B3xB3xII")
_EXTENDED: Final = (0x05, 0x0F, 0x85)
_PROTECTIVE: Final = 0xEE
_FIRST_LOGICAL: Final = 5
_GPT_ENTRY_SIZES: Final = range(128, 4097)


class Partition(NamedTuple):
    """A partition; it may lie outside of the disk."""

    number: int
    name: str
    offset: int
    size: int


def partitions(disk: Source) -> list[Partition]:
    """Return the partitions of a disk, in the order of its table; none where there is no table.

    Raises:
        ChecksumError, StoreError: the disk cannot be read.
    """
    if disk.size < 8 * 512 or disk.read_at(510, 2) != _SIGNATURE:
        return []
    primary = _entries(disk, 0)
    if any(kind == _PROTECTIVE for kind, _, _ in primary):
        for sector_size in SECTOR_SIZES:
            found = list(_gpt(disk, sector_size))
            if found:
                return found
    return list(_msdos(disk, primary))[:PARTITIONS_MAX]


def _entries(disk: Source, sector: int) -> list[tuple[int, int, int]]:
    """Return (type, first sector, sectors) four times; nothing where there is no table."""
    at = sector * 512
    if at + 512 > disk.size:
        return []
    data = disk.read_at(at, 512)
    if data[510:] != _SIGNATURE:
        return []
    rows = [_ENTRY.unpack_from(data, _TABLE_AT + 16 * index) for index in range(4)]
    if any(flag & 0x7F for flag, *_ in rows):
        return []  # code of a boot sector, where a table would be
    return [(kind, first, count) for _, kind, first, count in rows]


def _msdos(disk: Source, primary: list[tuple[int, int, int]]) -> Iterator[Partition]:
    for number, (kind, first, count) in enumerate(primary, 1):
        if kind in _EXTENDED:
            yield from _logical(disk, first)
        elif kind not in (0, _PROTECTIVE) and count:
            yield Partition(number, "", first * 512, count * 512)


def _logical(disk: Source, base: int) -> Iterator[Partition]:
    """Yield the partitions of a chain of tables; a chain that bites its tail ends."""
    sector, seen = base, {0}
    number = _FIRST_LOGICAL
    while sector not in seen and len(seen) <= PARTITIONS_MAX:
        seen.add(sector)
        following = 0
        for kind, first, count in _entries(disk, sector)[:2]:
            if kind in _EXTENDED:
                following = base + first
            elif kind and count:
                yield Partition(number, "", (sector + first) * 512, count * 512)
                number += 1
        sector = following


def _gpt(disk: Source, sector_size: int) -> Iterator[Partition]:
    if disk.size < 2 * sector_size:
        return
    header = disk.read_at(sector_size, 92)
    if header[:8] != b"EFI PART":
        return
    table, count, size = struct.unpack_from("<QII", header, 72)
    if size not in _GPT_ENTRY_SIZES:
        return
    for number in range(1, min(count, PARTITIONS_MAX) + 1):
        at = table * sector_size + (number - 1) * size
        if at + size > disk.size:
            return
        entry = disk.read_at(at, 128)
        first, last = struct.unpack_from("<QQ", entry, 32)
        if any(entry[:16]) and first <= last:
            name = entry[56:].decode("utf-16-le", errors="replace").split("\0")[0]
            yield Partition(number, name, first * sector_size, (last - first + 1) * sector_size)
