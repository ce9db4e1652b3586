"""The names in a directory of an XFS: in its inode, or in blocks. Pure.

Source: Linux, fs/xfs/libxfs/xfs_da_format.h (``struct xfs_dir2_sf_hdr``, ``xfs_dir2_data_entry``,
``xfs_dir2_data_unused``, ``xfs_dir2_block_tail``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError
from blocksnapd.files.nodes import TYPE_NUMBERS, Entry, checked_name, is_self_or_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALONE: Final = {False: b"XD2B", True: b"XDB3"}  # one block with its index at the end
_DATA: Final = {False: b"XD2D", True: b"XDD3"}
_HEADERS: Final = {False: 16, True: 64}
_FREE: Final = 0xFFFF


def short_entries(data: bytes, *, has_types: bool) -> Iterator[Entry]:
    """Yield the names in an inode; damage is a FormatError."""
    if len(data) < 6:
        raise FormatError("a directory is damaged")
    width = 8 if data[1] else 4
    count, at = max(data[0], data[1]), 2 + width
    for _ in range(count):
        if at + 3 > len(data):
            raise FormatError("a directory is cut short")
        length = data[at]
        name, at = data[at + 3 : at + 3 + length], at + 3 + length
        kind = data[at] if has_types and at < len(data) else 0
        at += has_types
        if at + width > len(data):
            raise FormatError("a directory is cut short")
        number = int.from_bytes(data[at : at + width], "big")
        at += width
        yield Entry(checked_name(name), number, TYPE_NUMBERS.get(kind, 0))


def block_entries(block: bytes, *, is_v5: bool, has_types: bool) -> Iterator[Entry]:
    """Yield the names in a block of a directory; damage is a FormatError."""
    end = len(block)
    if block[:4] == _ALONE[is_v5]:
        (count,) = struct.unpack_from(">I", block, end - 8)
        end -= 8 + 8 * count
    elif block[:4] != _DATA[is_v5]:
        raise FormatError("a directory is damaged")
    at = _HEADERS[is_v5]
    while at + 8 <= end:
        free, unused = struct.unpack_from(">HH", block, at)
        if free == _FREE:
            if unused < 8 or unused % 8:
                raise FormatError("a directory is damaged")
            at += unused
            continue
        number, length = struct.unpack_from(">QB", block, at) if at + 9 <= end else (0, 0)
        name = block[at + 9 : at + 9 + length]
        size = 9 + length + has_types + 2
        if len(name) != length or at + size > end:
            raise FormatError("a directory is damaged")
        kind = block[at + 9 + length] if has_types else 0
        if not is_self_or_parent(name):
            yield Entry(checked_name(name), number, TYPE_NUMBERS.get(kind, 0))
        at += size + 7 & ~7
