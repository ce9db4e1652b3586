"""Where the inodes of ext2, ext3 and ext4 lie: block groups and their descriptors. Pure.

Source: Linux, fs/ext4/super.c (``descriptor_loc``, ``ext4_bg_has_super``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from blocksnapd.files.source import Source

_META_GROUPS, _WIDE = 0x10, 0x80
_SPARSE, _SPARSE2 = 0x1, 0x200
_SIZE: Final = 32


class GroupTables:
    """Finds inodes.

    Args:
        source: the file system.
        superblock: its 1024 bytes.
        block_size: bytes.
        block_count: how many there are.
    """

    def __init__(
        self, source: Source, superblock: bytes, block_size: int, block_count: int
    ) -> None:
        self._source, self._block_size, self._block_count = source, block_size, block_count
        (compat, incompat, ro_compat) = struct.unpack_from("<III", superblock, 0x5C)
        (self._first_block,) = struct.unpack_from("<I", superblock, 0x14)
        (self._group_blocks,) = struct.unpack_from("<I", superblock, 0x20)
        (self._group_inodes,) = struct.unpack_from("<I", superblock, 0x28)
        is_wide = bool(incompat & _WIDE)
        self._size = struct.unpack_from("<H", superblock, 0xFE)[0] if is_wide else _SIZE
        has_meta = bool(incompat & _META_GROUPS)
        self._first_meta = struct.unpack_from("<I", superblock, 0x104)[0] if has_meta else 1 << 32
        self._is_sparse = bool(ro_compat & _SPARSE)
        self._backups = struct.unpack_from("<II", superblock, 0x24C) if compat & _SPARSE2 else None
        if (
            not self._group_blocks or not self._group_inodes or self._size % _SIZE
            or not _SIZE * (1 + is_wide) <= self._size <= block_size
        ):  # fmt: skip
            raise FormatError("an ext4 superblock is damaged")

    def inode_at(self, number: int, inode_size: int) -> int:
        """Return where inode ``number`` begins, in bytes.

        Raises:
            FormatError: its group's descriptor is damaged.
        """
        group, index = divmod(number - 1, self._group_inodes)
        raw = self._source.read_at(self._descriptor_at(group), self._size)
        table = int(struct.unpack_from("<I", raw, 8)[0])
        if self._size >= 2 * _SIZE:
            table |= int(struct.unpack_from("<I", raw, 0x28)[0]) << 32
        at = table * self._block_size + index * inode_size
        if not 0 < table < self._block_count or at >= self._block_count * self._block_size:
            raise FormatError("a group descriptor of an ext4 leads out of it")
        return int(at)

    def _descriptor_at(self, group: int) -> int:
        each = self._block_size // self._size
        number, within = divmod(group, each)
        superblock_in = 1024 // self._block_size
        if number < self._first_meta:
            block = superblock_in + 1 + number
        else:
            first = number * each
            block = first * self._group_blocks + self._first_block + self._has_superblock(first)
            if not number and self._block_size == 1024 and not self._first_block:
                block += 1
        return block * self._block_size + within * self._size

    def _has_superblock(self, group: int) -> bool:
        if group == 0:
            return True
        if self._backups is not None:
            return group in self._backups
        return group == 1 or not self._is_sparse or any(_is_power(group, n) for n in (3, 5, 7))


def _is_power(value: int, base: int) -> bool:
    power = base
    while power < value:
        power *= base
    return power == value
