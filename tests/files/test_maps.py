"""Maps of files that would never end, or claim more than there is: they end soon, with an error."""

from __future__ import annotations

import struct
from time import process_time

import pytest

from blocksnapd.errors import FormatError
from blocksnapd.files.ext_maps import ExtMaps
from blocksnapd.files.nodes import Run, RunCheck, read_range
from blocksnapd.files.source import ImageSource
from blocksnapd.files.xfs_maps import Geometry, XfsMaps
from tests.files.corpus import BytesImage

BLOCK = 1024
COUNT = 4096


def disk(blocks: dict[int, bytes]) -> ImageSource:
    content = bytearray(BLOCK * COUNT)
    for number, data in blocks.items():
        content[number * BLOCK : number * BLOCK + len(data)] = data
    return ImageSource(BytesImage(content))


def node(depth: int, *entries: bytes) -> bytes:
    return struct.pack("<4HI", 0xF30A, len(entries), 84, depth, 0) + b"".join(entries)


def index(block: int, number: int = 0) -> bytes:
    return struct.pack("<IIHH", number, block, 0, 0)


def extent(first: int, length: int, block: int) -> bytes:
    return struct.pack("<IHHI", first, length, 0, block)


def bomb(leaf: bytes) -> tuple[ImageSource, bytes]:
    """Return a tree of 84⁴ leaves, all the same."""
    blocks = {10 + d: node(d, *[index(9 + d)] * 84) for d in (4, 3, 2, 1)}
    return disk(blocks | {10: leaf}), node(5, index(14)).ljust(60, b"\0")


@pytest.mark.parametrize(
    "leaf", [node(0), node(0, extent(0, 1, 100)), node(0, *[extent(5, 1, 100)] * 84), node(1)]
)
def test_a_tree_of_the_same_leaf_again_and_again(leaf: bytes) -> None:
    source, root = bomb(leaf)
    began = process_time()
    with pytest.raises(FormatError):
        list(ExtMaps(source, BLOCK, COUNT).extents(root, 1 << 60))
    assert process_time() - began < 5


def test_pointers_to_the_same_empty_block_again_and_again() -> None:
    pointers = struct.pack("<256I", *[11] * 256)
    source = disk({10: pointers, 11: struct.pack("<256I", *[12] * 256)})
    root = struct.pack("<15I", *[0] * 14, 10)
    began = process_time()
    with pytest.raises(FormatError, match="more indirect blocks"):
        list(ExtMaps(source, BLOCK, COUNT).indirect(root, 1 << 42))
    assert process_time() - began < 20


def test_more_than_the_disk_has() -> None:
    entries = [extent(30_000 * n, 3000, 100) for n in range(4)]
    root = node(0, *entries).ljust(60, b"\0")
    with pytest.raises(FormatError):
        list(ExtMaps(disk({}), BLOCK, COUNT).extents(root, 1 << 60))
    for first, place, count in ((0, 0, 1), (0, 4090, 10), (0, 1 << 60, 1), (0, 10, 0)):
        with pytest.raises(FormatError):
            RunCheck(BLOCK, COUNT, 1 << 30).run(first, place, count, is_data=True)


def test_runs_end_where_the_file_ends() -> None:
    check = RunCheck(BLOCK, COUNT, 2500)
    assert check.run(0, 10, 1, is_data=True) == Run(0, 10 * BLOCK, 1024)
    assert check.run(2, 20, 5, is_data=True) == Run(2048, 20 * BLOCK, 452)
    assert check.run(9, 30, 1, is_data=True) is None


def test_ranges_of_files_are_put_together() -> None:
    source = disk({n: bytes([n]) * BLOCK for n in range(1, 9)})
    runs = [Run(BLOCK * n * 2, BLOCK * (n + 1), BLOCK) for n in range(8)]
    whole = read_range(source, runs, 0, 16 * BLOCK)
    wanted = b"".join(bytes([n + 1]) * BLOCK + bytes(BLOCK) for n in range(8))
    assert whole == wanted
    for offset, length in ((0, 1), (1000, 3000), (1024, 1024), (5000, 9000), (15 * BLOCK, BLOCK)):
        assert read_range(source, runs, offset, length) == wanted[offset : offset + length]


def geometry() -> Geometry:
    block = bytearray(512)
    for form, at, value in (
        (">4s", 0, b"XFSB"), (">I", 4, BLOCK), (">Q", 8, COUNT), (">Q", 56, 64), (">I", 84, COUNT),
        (">I", 88, 1), (">H", 100, 0x2005), (">H", 104, 512), (">B", 120, 10), (">B", 122, 9),
        (">B", 123, 1), (">B", 124, 12),
    ):  # fmt: skip
        struct.pack_into(form, block, at, value)
    return Geometry(bytes(block))


def test_a_tree_of_xfs_that_leads_into_itself() -> None:
    def branch(level: int, block: int) -> bytes:
        slots = (BLOCK - 72) // 16
        head = struct.pack(">4sHH", b"BMA3", level, slots).ljust(72 + 8 * slots, b"\0")
        return head + struct.pack(f">{slots}Q", *[block] * slots)

    root = struct.pack(">HH", 5, 1).ljust(4 + 8 * 10, b"\0") + struct.pack(">Q", 14).ljust(
        80, b"\0"
    )
    for leaf in (b"BMA3", b"BMA3" + struct.pack(">HH", 0, 1)):
        source = disk({10 + n: branch(n, 9 + n) for n in (4, 3, 2, 1)} | {10: leaf})
        began = process_time()
        with pytest.raises(FormatError):
            list(XfsMaps(source, geometry()).runs(root, 0, is_tree=True, size=1 << 60))
        assert process_time() - began < 5
    for number in (COUNT, 1 << 63):
        with pytest.raises(FormatError):
            geometry().address(number)
