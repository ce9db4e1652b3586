"""Extended attributes of an XFS: in the inode, in leaves, and large values beside them. Pure.

Source: Linux, fs/xfs/libxfs/xfs_da_format.h (``struct xfs_attr_sf_hdr``, ``xfs_attr_leafblock``,
``xfs_attr3_leaf_hdr``, ``xfs_da_node_hdr``, ``xfs_attr3_rmt_hdr``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError
from blocksnapd.files.attributes import acl_from_xfs
from blocksnapd.files.nodes import XATTR_SIZE_MAX, read_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.nodes import Run
    from blocksnapd.files.source import Source
    from blocksnapd.files.xfs_maps import Geometry

LEVELS_MAX: Final = 5
LEAVES_MAX: Final = 4096
_LOCAL, _TRUSTED, _SECURITY, _PARENT, _INCOMPLETE = 0x01, 0x02, 0x04, 0x08, 0x80
_LEAF_MAGIC: Final = {False: 0xFBEE, True: 0x3BEE}
_NODE_MAGIC: Final = {False: 0xFEBE, True: 0x3EBE}
_INFO: Final = {False: 12, True: 56}
_LEAF_HEADER: Final = {False: 32, True: 80}
_NODE_HEADER: Final = {False: 16, True: 64}
_VALUE_HEADER: Final = 56
_LISTS: Final = {
    b"SGI_ACL_FILE": b"system.posix_acl_access", b"SGI_ACL_DEFAULT": b"system.posix_acl_default",
}  # fmt: skip

Attribute = tuple[bytes, bytes]


class XfsAttributes:
    """Reads those of one file system."""

    def __init__(self, source: Source, geometry: Geometry) -> None:
        self._source, self._size, self._is_v5 = source, geometry.block_size, geometry.is_v5

    def short(self, fork: bytes) -> list[Attribute]:
        """Return the attributes that lie in an inode.

        Raises:
            FormatError: they are damaged.
        """
        if len(fork) < 4:
            raise _damaged()
        found: list[Attribute] = []
        at = 4
        for _ in range(fork[2]):
            if at + 3 > len(fork):
                raise _damaged()
            length, size, flags = fork[at : at + 3]
            at += 3
            name, value = fork[at : at + length], fork[at + length : at + length + size]
            at += length + size
            if at > len(fork):
                raise _damaged()
            found += _named(name, value, flags)
        return found

    def long(self, runs: list[Run]) -> list[Attribute]:
        """Return the attributes that lie in blocks, ``runs`` of the attribute fork.

        Raises:
            FormatError: they are damaged.
        """
        if not runs:
            return []
        found: list[Attribute] = []
        number = self._first_leaf(runs)
        for _ in range(LEAVES_MAX):
            block = self._block(runs, number)
            found += self._leaf(block, runs)
            (number,) = struct.unpack_from(">I", block)
            if not number:
                return found
        raise _damaged()

    def _first_leaf(self, runs: list[Run]) -> int:
        number, level = 0, LEVELS_MAX + 1
        while True:
            block = self._block(runs, number)
            if struct.unpack_from(">H", block, 8)[0] != _NODE_MAGIC[self._is_v5]:
                return number
            count, found = struct.unpack_from(">HH", block, _INFO[self._is_v5])
            if not count or not 0 < found < level:
                raise _damaged()
            level = found
            (number,) = struct.unpack_from(">I", block, _NODE_HEADER[self._is_v5] + 4)

    def _leaf(self, block: bytes, runs: list[Run]) -> Iterator[Attribute]:
        begin, info = _LEAF_HEADER[self._is_v5], _INFO[self._is_v5]
        (count,) = struct.unpack_from(">H", block, info)
        is_leaf = struct.unpack_from(">H", block, 8)[0] == _LEAF_MAGIC[self._is_v5]
        if not is_leaf or begin + 8 * count > len(block):
            raise _damaged()
        for at in range(begin, begin + 8 * count, 8):
            _, place, flags = struct.unpack_from(">IHB", block, at)
            if place + 3 > len(block):
                raise _damaged()
            yield from self._entry(block, place, flags, runs)

    def _entry(self, block: bytes, at: int, flags: int, runs: list[Run]) -> Iterator[Attribute]:
        if flags & _INCOMPLETE:
            return
        if flags & _LOCAL:
            size, length = struct.unpack_from(">HB", block, at)
            name = block[at + 3 : at + 3 + length]
            value = block[at + 3 + length : at + 3 + length + size]
        else:
            if at + 9 > len(block):
                raise _damaged()
            number, size, length = struct.unpack_from(">IIB", block, at)
            name = block[at + 9 : at + 9 + length]
            value = self._remote(runs, number, size)
        if len(name) != length or len(value) != size:
            raise _damaged()
        yield from _named(name, value, flags)

    def _remote(self, runs: list[Run], number: int, size: int) -> bytes:
        if size > XATTR_SIZE_MAX:
            raise _damaged()
        header = _VALUE_HEADER if self._is_v5 else 0
        found = b""
        while len(found) < size:
            block = self._block(runs, number)
            if header and block[:4] != b"XARM":
                raise _damaged()
            found += block[header:]
            number += 1
        return found[:size]

    def _block(self, runs: list[Run], number: int) -> bytes:
        return read_range(self._source, runs, number * self._size, self._size)


def _named(name: bytes, value: bytes, flags: int) -> Iterator[Attribute]:
    if flags & (_PARENT | _INCOMPLETE):
        return
    if flags & _TRUSTED and name in _LISTS:
        yield _LISTS[name], acl_from_xfs(value)
        return
    prefix = b"trusted." if flags & _TRUSTED else b"security." if flags & _SECURITY else b"user."
    if not name or b"\0" in name:
        raise _damaged()
    yield prefix + name, value


def _damaged() -> FormatError:
    return FormatError("the attributes of a file are damaged")
