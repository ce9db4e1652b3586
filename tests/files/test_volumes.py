"""Which file systems an image holds: on all of it, in partitions of both kinds, in LVM."""

from __future__ import annotations

import random
import shutil
import struct
import uuid
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError, ChecksumError, FormatError, NotFoundError, UsageError
from blocksnapd.files.paths import find
from blocksnapd.files.source import ImageSource, Pieces, Striped
from blocksnapd.files.volumes import chosen, volumes_of
from tests.files.corpus import MIB, MKFS_ENVIRONMENT, BytesImage, ext_image

if TYPE_CHECKING:
    from blocksnapd.files.volumes import Volume

LINUX = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4").bytes_le
EXT_SIZE = 20 * MIB
HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
needs_mke2fs = pytest.mark.skipif(
    shutil.which("mke2fs", path=MKFS_ENVIRONMENT["PATH"]) is None, reason="no mke2fs here"
)


@pytest.fixture(scope="module")
def ext(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("ext")
    (folder / "tree").mkdir()
    (folder / "tree/file").write_bytes(b"inside")
    return ext_image(folder / "image", folder / "tree", "-t", "ext4", size=EXT_SIZE).read_bytes()


def seen(content: bytes) -> list[Volume]:
    return volumes_of(ImageSource(BytesImage(content)))


def told(volumes: list[Volume]) -> list[tuple[int, str, str, int | None, int]]:
    return [(v.number, v.kind, v.name, v.offset, v.size) for v in volumes]


def with_mbr(*parts: tuple[int, int, int, bytes]) -> bytes:
    """Return a disk with (type, first sector, sectors, content) as its partitions."""
    end = max(first + count for _, first, count, _ in parts)
    disk = bytearray(end * 512)
    for number, (kind, first, count, content) in enumerate(parts):
        at = 446 + 16 * number
        disk[at : at + 16] = struct.pack("<8B2I", 0, 0, 0, 0, kind, 0, 0, 0, first, count)
        disk[first * 512 : first * 512 + len(content)] = content
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def with_gpt(*parts: tuple[str, int, int, bytes]) -> bytes:
    """Return a disk with (name, first sector, sectors, content) as its partitions."""
    end = max(first + count for _, first, count, _ in parts)
    disk = bytearray(with_mbr((0xEE, 1, end + 33, b"")))
    table = b"".join(
        LINUX + uuid.UUID(int=number + 1).bytes_le
        + struct.pack("<QQQ", first, first + count - 1, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for number, (name, first, count, _) in enumerate(parts)
    ).ljust(128 * 128, b"\0")  # fmt: skip
    facts = (b"EFI PART", 0x10000, 92, 0, 0, 1, end + 33, 34, end, bytes(16), 2, 128, 128,
             zlib.crc32(table))  # fmt: skip
    header = bytearray(HEADER.pack(*facts))
    header[16:20] = struct.pack("<I", zlib.crc32(header))
    disk[512 : 512 + len(header)] = header
    disk[1024 : 1024 + len(table)] = table
    for _, first, _, content in parts:
        disk[first * 512 : first * 512 + len(content)] = content
    return bytes(disk)


@needs_mke2fs
def test_a_file_system_on_all_of_it(ext: bytes) -> None:
    assert told(seen(ext)) == [(1, "ext4", "the whole image", 0, EXT_SIZE)]
    with_boot_sector = b"\xeb\x63" + bytes(508) + b"\x55\xaa" + ext[512:]
    assert told(seen(with_boot_sector)) == [(1, "ext4", "the whole image", 0, EXT_SIZE)]


@needs_mke2fs
def test_partitions_of_both_kinds(ext: bytes) -> None:
    count = EXT_SIZE // 512
    swap = bytes(4086) + b"SWAPSPACE2"
    disk = with_mbr((0x82, 2048, 64, swap), (0x83, 4096, count, ext), (0x83, 60000, count, ext))
    assert told(seen(disk)) == [
        (1, "swap", "partition 1", 2048 * 512, 64 * 512),
        (2, "ext4", "partition 2", 4096 * 512, EXT_SIZE),
        (3, "ext4", "partition 3", 60000 * 512, EXT_SIZE),
    ]
    disk = with_gpt(("boot ☃", 2048, 64, b""), ("root", 4096, count, ext))
    volumes = seen(disk)
    assert told(volumes) == [
        (1, "unknown", "partition 1 (boot ☃)", 2048 * 512, 64 * 512),
        (2, "ext4", "partition 2 (root)", 4096 * 512, EXT_SIZE),
    ]
    assert find(chosen(volumes, None), b"/file")[0].size == 6


@needs_mke2fs
def test_of_several_one_is_named(ext: bytes) -> None:
    count = EXT_SIZE // 512
    volumes = seen(with_mbr((0x83, 2048, count, ext), (0x83, 60000, count, ext)))
    with pytest.raises(UsageError, match="2 file systems") as told_error:
        chosen(volumes, None)
    assert "2: ext4 in partition 2" in told_error.value.hint
    assert chosen(volumes, 2) is volumes[1].files
    for number in (0, 3):
        with pytest.raises(NotFoundError):
            chosen(volumes, number)


@needs_mke2fs
def test_what_does_not_fit_is_told_and_not_read(ext: bytes) -> None:
    disk = with_mbr((0x83, 2048, EXT_SIZE // 512, ext))
    (volume,) = seen(disk[: len(disk) - 512])
    assert (volume.files, volume.notes) == (
        None,
        ["the partition ends behind the end of the image"],
    )
    with pytest.raises(FormatError, match="holds no"):
        chosen([volume], None)


@needs_mke2fs
def test_a_lost_partition_hides_no_other(ext: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    count = EXT_SIZE // 512
    image = BytesImage(with_mbr((0x83, 2048, 64, b"x" * 99), (0x83, 4096, count, ext)))
    read = image.read_into

    def broken(offset: int, view: memoryview) -> None:
        if offset <= 2048 * 512 < offset + len(view):
            raise ChecksumError("block 256 is damaged")
        read(offset, view)

    monkeypatch.setattr(image, "read_into", broken)
    lost, whole = volumes_of(ImageSource(image))
    assert (lost.files, lost.notes) == (None, ["block 256 is damaged"])
    assert whole.kind == "ext4"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "unknown"), (b"LUKS\xba\xbe", "LUKS, encrypted"), (b"XFSB" + bytes(508), "xfs"),
        (bytes(512) + b"LABELONE" + bytes(24), "LVM physical volume"),
        (b"\xeb\x52\x90NTFS", "ntfs"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(head: bytes, kind: str) -> None:
    (volume,) = seen(head.ljust(MIB, b"\0"))
    assert (volume.number, volume.kind, volume.files) == (1, kind, None)


@given(st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=60)), max_size=12))
@settings(deadline=None)
def test_any_table_is_read_or_not(changes: list[tuple[int, bytes]]) -> None:
    disk = bytearray(TABLES[len(changes) % 2])
    for at, new in changes:
        disk[at : at + len(new)] = new
    try:
        assert 0 < len(seen(bytes(disk))) <= 256
    except BlocksnapError as error:
        raise AssertionError("nothing of it is needed") from error


TABLES = (
    with_gpt(("a", 64, 64, b""), ("b", 128, 64, b"")),
    with_mbr((5, 64, 64, b""), (0x83, 128, 64, b"")),
)  # fmt: skip


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_pieces_are_one_disk(seed: int) -> None:
    dice = random.Random(seed)
    below = [ImageSource(BytesImage(dice.randbytes(5000))) for _ in range(2)]
    pieces = [
        (dice.choice(below), dice.randrange(4000), dice.randrange(1, 900))
        for _ in range(dice.randrange(1, 6))
    ]
    whole = b"".join(of.read_at(at, size) for of, at, size in pieces)
    disk = Pieces(pieces)
    assert disk.size == len(whole)
    offset = dice.randrange(len(whole))
    length = dice.randrange(len(whole) - offset + 1)
    assert disk.read_at(offset, length) == whole[offset : offset + length]
    for bad in ((-1, 5), (4990, 11), (5000, 0)):
        with pytest.raises(FormatError):
            Pieces([(below[0], *bad)])


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_stripes_are_one_disk(seed: int) -> None:
    dice = random.Random(seed)
    count, stripe, rows = dice.randrange(2, 5), dice.randrange(1, 300), dice.randrange(1, 8)
    parts = [
        (ImageSource(BytesImage(dice.randbytes(4000))), dice.randrange(900)) for _ in range(count)
    ]
    whole = b"".join(
        of.read_at(at + row * stripe, stripe) for row in range(rows) for of, at in parts
    )
    disk = Striped(parts, stripe, len(whole))
    offset = dice.randrange(len(whole))
    length = dice.randrange(len(whole) - offset + 1)
    assert disk.read_at(offset, length) == whole[offset : offset + length]
    with pytest.raises(FormatError):
        Striped([*parts, (parts[0][0], 4001 - rows * stripe)], stripe, len(whole) + rows * stripe)
