"""Geometry of an XFS, and where the data of its files lies: extent lists and B+trees. Pure.

Unwritten extents are holes: what is on the disk there was never the file's. Every tree ends:
levels only go down and blocks only go up.

Source: Linux, fs/xfs/libxfs/xfs_format.h (``struct xfs_dsb``, ``xfs_bmbt_rec``,
``xfs_btree_block``).
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

MAGIC: Final = b"XFSB"
LEVELS_MAX: Final = 10
SHARED_FACTOR: Final = 64  # a file may refer to the same blocks again and again
_TREE_MAGICS: Final = (b"BMAP", b"BMA3")
_LOG_SIZES: Final = ((0x79, 9, 15), (0x78, 9, 16), (0x7A, 8, 11))


class Geometry:
    """What the superblock says, checked."""

    def __init__(self, block: bytes) -> None:
        """Read it.

        Raises:
            FormatError: it is damaged, or not of an XFS that is understood here.
        """
        if block[:4] != MAGIC:
            raise FormatError("no superblock of an XFS")

        def of(form: str, at: int) -> int:
            return int(struct.unpack_from(form, block, at)[0])

        self.block_size, self.block_count = of(">I", 4), of(">Q", 8)
        self.log_start, self.root = of(">Q", 48), of(">Q", 56)
        self.group_blocks, self.group_count = of(">I", 84), of(">I", 88)
        self.log_blocks, version = of(">I", 96), of(">H", 100)
        self.inode_size = of(">H", 104)
        self.label = block[108:120].split(b"\0")[0].decode(errors="replace")
        block_log, inode_log, self.inodes_log = block[120], block[122], block[123]
        self.group_log, self.directory_log = block[124], block[192]
        self.is_v5 = version & 0xF == 5
        features2, self.incompat = of(">I", 200), of(">I", 216) if self.is_v5 else 0
        self.has_types = bool(self.incompat & 1 if self.is_v5 else features2 & 0x200)
        if version & 0xF not in (4, 5) or not version & 0x2000:
            raise FormatError(f"this XFS is of version {version & 0xF}, which is too old")
        if self.incompat & ~0xFF:
            raise FormatError(
                f"this XFS has features not understood here (incompat {self.incompat:#x})",
                hint="Let a kernel read it: blocksnapctl mount, or export.",
            )
        if (
            not 9 <= block_log <= 16 or self.block_size != 1 << block_log
            or not 8 <= inode_log <= 11 or self.inode_size != 1 << inode_log
            or self.inodes_log != block_log - inode_log
            or not self.group_blocks <= 1 << self.group_log <= 1 << 32
            or not 0 < self.group_count <= 1 << 32 or not self.group_blocks
            or self.directory_log + block_log > 16
        ):  # fmt: skip
            raise FormatError("an XFS superblock is damaged")

    def address(self, block: int) -> int:
        """Return the number, on the disk, of a block as extents name it.

        Raises:
            FormatError: there is none.
        """
        group, within = block >> self.group_log, block & (1 << self.group_log) - 1
        if group >= self.group_count or within >= self.group_blocks:
            raise FormatError("something in an XFS leads out of it")
        return group * self.group_blocks + within

    def inode_at(self, number: int) -> int:
        """Return where inode ``number`` begins, in bytes; raises as ``address``."""
        block = self.address(number >> self.inodes_log)
        index = number & (1 << self.inodes_log) - 1
        return block * self.block_size + index * self.inode_size


class XfsMaps:
    """The maps of one file system."""

    def __init__(self, source: Source, geometry: Geometry) -> None:
        self._source, self._geometry = source, geometry
        self._block_count = min(geometry.block_count, source.size // geometry.block_size)

    def runs(self, fork: bytes, count: int, *, is_tree: bool, size: int) -> Iterator[Run]:
        """Yield the runs of a fork of an inode.

        Args:
            fork: its bytes in the inode.
            count: how many extents it lists, if it lists them itself.
            is_tree: it is the root of a tree instead.
            size: bytes of the file; what is behind is left out.

        Raises:
            FormatError: the map is damaged.
        """
        check = RunCheck(
            self._geometry.block_size, self._block_count, size, SHARED_FACTOR * self._block_count
        )
        records = self._tree(fork) if is_tree else self._records(fork, count)
        for first, block, length, is_written in records:
            place = self._geometry.address(block) if is_written else 0
            run = check.run(first, place, length, is_data=is_written)
            if first * self._geometry.block_size >= size:
                return  # room kept for more of the file, or an index of a directory
            if run:
                yield run

    def _records(self, data: bytes, count: int) -> Iterator[tuple[int, int, int, bool]]:
        if 16 * count > len(data):
            raise FormatError("an extent list is damaged")
        for at in range(0, 16 * count, 16):
            high, low = struct.unpack_from(">QQ", data, at)
            first = high >> 9 & (1 << 54) - 1
            block = (high & 0x1FF) << 43 | low >> 21
            yield first, block, low & (1 << 21) - 1, not high >> 63

    def _tree(self, root: bytes) -> Iterator[tuple[int, int, int, bool]]:
        if len(root) < 4:
            raise FormatError("an extent tree is damaged")
        level, count = struct.unpack_from(">HH", root)
        slots = (len(root) - 4) // 16
        if not 0 < level <= LEVELS_MAX or not 0 < count <= slots:
            raise FormatError("an extent tree is damaged")
        for block in struct.unpack_from(f">{count}Q", root, 4 + 8 * slots):
            yield from self._branch(block, level - 1)

    def _branch(self, number: int, level_wanted: int) -> Iterator[tuple[int, int, int, bool]]:
        size = self._geometry.block_size
        data = self._source.read_at(self._geometry.address(number) * size, size)
        level, count = struct.unpack_from(">HH", data, 4)
        begin = 72 if self._geometry.is_v5 else 24
        slots = (size - begin) // 16
        is_magic = data[:4] == _TREE_MAGICS[self._geometry.is_v5]
        if not is_magic or level != level_wanted or not 0 < count <= slots:
            raise FormatError("an extent tree is damaged")
        if not level:
            yield from self._records(data[begin:], count)
            return
        for block in struct.unpack_from(f">{count}Q", data, begin + 8 * slots):
            yield from self._branch(block, level - 1)
