"""Partition tables to their corners: chains of logical partitions, large sectors, loops."""

from __future__ import annotations

import struct

from blocksnapd.files.source import ImageSource
from blocksnapd.files.tables import Partition, partitions
from tests.files.corpus import BytesImage
from tests.files.test_volumes import with_gpt, with_mbr

Row = tuple[int, int, int]


def put_table(disk: bytearray, sector: int, *rows: Row) -> None:
    """Write (type, first sector, sectors) rows as a table of MS-DOS."""
    at = sector * 512
    for number, (kind, first, count) in enumerate(rows):
        place = at + 446 + 16 * number
        disk[place : place + 16] = struct.pack("<8B2I", 0, 0, 0, 0, kind, 0, 0, 0, first, count)
    disk[at + 510 : at + 512] = b"\x55\xaa"


def seen(disk: bytes | bytearray) -> list[Partition]:
    return partitions(ImageSource(BytesImage(disk)))


def test_logical_partitions_are_a_chain() -> None:
    disk = bytearray(512 * 1000)
    put_table(disk, 0, (0x83, 10, 20), (0x0F, 100, 800), (0, 0, 0), (0x83, 950, 5))
    put_table(disk, 100, (0x83, 2, 30), (5, 200, 100))
    put_table(disk, 300, (0x82, 1, 10), (5, 400, 100))
    put_table(disk, 500, (0x83, 3, 9))
    assert [(p.number, p.offset // 512, p.size // 512) for p in seen(disk)] == [
        (1, 10, 20), (5, 102, 30), (6, 301, 10), (7, 503, 9), (4, 950, 5),
    ]  # fmt: skip


def test_chains_that_bite_their_tail_end() -> None:
    disk = bytearray(512 * 1000)
    put_table(disk, 0, (5, 100, 800))
    put_table(disk, 100, (0x83, 2, 30), (5, 200, 100))
    put_table(disk, 300, (0x83, 2, 30), (5, 0, 100))
    assert [p.number for p in seen(disk)] == [5, 6]
    put_table(disk, 300, (0x83, 2, 30), (5, 1 << 31, 100))
    assert [p.number for p in seen(disk)] == [5, 6]


def test_a_boot_sector_is_no_table() -> None:
    disk = bytearray(512 * 100)
    disk[:512] = bytes(range(256)) * 2
    disk[510:512] = b"\x55\xaa"
    assert seen(disk) == []
    assert seen(bytes(512 * 100)) == seen(b"") == seen(b"\x55\xaa" * 100) == []


def test_a_table_in_large_sectors() -> None:
    """The last sector belongs to the partition."""
    small = with_gpt(("one", 64, 64, b""))
    disk = bytearray(4096 * 200)
    disk[:512] = small[:512]
    disk[4096 : 4096 + 512] = small[512:1024]
    disk[8192 : 8192 + 16384] = small[1024 : 1024 + 16384]
    assert seen(disk) == [Partition(1, "one", 64 * 4096, 64 * 4096)]
    assert seen(small) == [Partition(1, "one", 64 * 512, 64 * 512)]


def test_tables_that_claim_too_much() -> None:
    disk = bytearray(with_gpt(("one", 64, 64, b"")))
    disk[512 + 80 : 512 + 84] = b"\xff" * 4  # so many entries
    assert len(seen(disk)) <= 256
    disk[512 + 84 : 512 + 88] = b"\xff" * 4  # so large
    assert seen(disk) == []
    disk = bytearray(with_gpt(("one", 64, 64, b"")))
    disk[512 + 72 : 512 + 80] = b"\xff" * 8  # the table is far away
    assert seen(disk) == []
    assert seen(with_mbr((0xEE, 1, 300, b""))) == []
