"""Where the data of a file of ext2, ext3 or ext4 lies: extent trees and indirect blocks. Pure.

Unwritten extents are holes: what is on the disk there was never the file's. Every tree ends:
levels only go down, blocks only go up, and nothing has more parts than the disk has blocks.

Source: Linux, fs/ext4/ext4_extents.h (``struct ext4_extent_header`` and its entries), indirect.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError
from blocksnapd.files.nodes import RunCheck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.nodes import Run
    from blocksnapd.files.source import Source

EXTENT_MAGIC: Final = 0xF30A
DEPTH_MAX: Final = 5
WRITTEN_MAX: Final = 0x8000  # longer ones are unwritten, by what is more
DIRECT_BLOCKS: Final = 12
_HEADER = struct.Struct("<4HI")
_EXTENT = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIHH")


class ExtMaps:
    """The maps of one file system."""

    def __init__(self, source: Source, block_size: int, block_count: int) -> None:
        self._source, self._block_size, self._block_count = source, block_size, block_count

    def extents(self, root: bytes, file_size: int) -> Iterator[Run]:
        """Yield the runs of an extent tree whose root is ``root``, the inode's 60 bytes.

        Raises:
            FormatError: it is none.
        """
        check = RunCheck(self._block_size, self._block_count, file_size)
        for first, place, length in self._extents(root, None):
            is_data = length <= WRITTEN_MAX
            count = length if is_data else length - WRITTEN_MAX
            run = check.run(first, place, count, is_data=is_data)
            if first * self._block_size >= file_size:
                return  # room kept for more of the file
            if run:
                yield run

    def indirect(self, root: bytes, file_size: int) -> Iterator[Run]:
        """Yield the runs that the inode's 15 pointers lead to.

        Raises:
            FormatError: they cannot be.
        """
        check = RunCheck(self._block_size, self._block_count, file_size)
        wanted = -(-file_size // self._block_size)
        first = place = count = 0
        for number, block in self._pointers(root, wanted):
            if count and number == first + count and block == place + count:
                count += 1
                continue
            run = check.run(first, place, count, is_data=True) if count else None
            if run:
                yield run
            first, place, count = number, block, 1
        run = check.run(first, place, count, is_data=True) if count else None
        if run:
            yield run

    def _extents(self, data: bytes, depth_wanted: int | None) -> Iterator[tuple[int, int, int]]:
        magic, count, _, depth, _ = _HEADER.unpack_from(data)
        if magic != EXTENT_MAGIC or depth > DEPTH_MAX or depth != (depth_wanted or depth):
            raise FormatError("an extent tree is damaged")
        if (depth_wanted == 0 and depth) or 12 * (count + 1) > len(data):
            raise FormatError("an extent tree is damaged")
        if not count and depth_wanted is not None:
            raise FormatError("an extent tree has an empty branch")
        for at in range(12, 12 * (count + 1), 12):
            if depth:
                _, low, high, _ = _INDEX.unpack_from(data, at)
                yield from self._extents(self._block(low | high << 32), depth - 1)
            else:
                first, length, high, low = _EXTENT.unpack_from(data, at)
                yield first, low | high << 32, length

    def _pointers(self, root: bytes, wanted: int) -> Iterator[tuple[int, int]]:
        """Yield (block of the file, block on the disk) for all that are not holes."""
        each = self._block_size // 4
        budget = [self._block_count]
        pointers = struct.unpack("<15I", root)
        for number, block in enumerate(pointers[: min(DIRECT_BLOCKS, wanted)]):
            if block:
                yield number, block
        first = DIRECT_BLOCKS
        for level in (1, 2, 3):
            if first >= wanted:
                return
            block = pointers[DIRECT_BLOCKS + level - 1]
            if block:
                yield from self._below(block, level, first, wanted, budget)
            first += each**level

    def _below(
        self, block: int, level: int, first: int, wanted: int, budget: list[int]
    ) -> Iterator[tuple[int, int]]:
        budget[0] -= 1
        if budget[0] < 0:
            raise FormatError("a file has more indirect blocks than there are blocks")
        each = self._block_size // 4
        span = each ** (level - 1)
        for index, pointer in enumerate(struct.unpack(f"<{each}I", self._block(block))):
            at = first + index * span
            if at >= wanted:
                return
            if pointer and level == 1:
                yield at, pointer
            elif pointer:
                yield from self._below(pointer, level - 1, at, wanted, budget)

    def _block(self, number: int) -> bytes:
        if not 0 < number < self._block_count:
            raise FormatError("the map of a file leads out of its file system")
        return self._source.read_at(number * self._block_size, self._block_size)
