"""ext2, ext3 and ext4, read as they lie on the disk: without their log, without a kernel. Pure.

Source: Linux, fs/ext4/ext4.h (``struct ext4_super_block``, ``ext4_group_desc``, ``ext4_inode``,
``ext4_dir_entry_2``) and xattr.h; Documentation/filesystems/ext4.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError
from blocksnapd.files.attributes import acl_from_ext
from blocksnapd.files.ext_groups import GroupTables
from blocksnapd.files.ext_maps import ExtMaps
from blocksnapd.files.nodes import (
    DIRECTORY_SIZE_MAX,
    LINK_LENGTH_MAX,
    NS,
    TYPE_NUMBERS,
    XATTR_SIZE_MAX,
    Entry,
    Node,
    checked_link,
    checked_name,
    is_self_or_parent,
    read_range,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.nodes import Run
    from blocksnapd.files.source import Source

SUPERBLOCK_AT: Final = 1024
MAGIC: Final = 0xEF53
ROOT: Final = 2
# What changes where things are, and is understood here; anything else is refused.
FILETYPE, RECOVER, EXTENTS, INLINE_DATA = 0x2, 0x4, 0x40, 0x8000
UNDERSTOOD: Final = (
    FILETYPE | RECOVER | 0x10 | EXTENTS | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000
    | INLINE_DATA | 0x10000 | 0x20000
)  # fmt: skip
_ENCRYPTED, _IN_EXTENTS, _ATTRIBUTE, _INLINE = 0x800, 0x80000, 0x200000, 0x10000000
_XATTR_MAGIC: Final = 0xEA020000
_PREFIXES: Final = {
    1: b"user.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default", 4: b"trusted.",
    6: b"security.", 7: b"system.", 8: b"system.richacl",
}  # fmt: skip
_DATA_NAME: Final = b"system.data"  # where the rest of inline data lies
_DIRECTORY_ENTRY = struct.Struct("<IHBB")
_XATTR_ENTRY = struct.Struct("<BBHIII")


class Ext:
    """A file system; see ``nodes.FileSystem``."""

    def __init__(self, source: Source) -> None:
        """Read the superblock.

        Raises:
            FormatError: there is none that can be read. What ``Source.read_at`` raises.
        """
        self.source = source
        block = source.read_at(SUPERBLOCK_AT, 1024)
        (self._inodes,) = struct.unpack_from("<I", block, 0x00)
        (self._log_size,) = struct.unpack_from("<I", block, 0x18)
        magic, state = struct.unpack_from("<HH", block, 0x38)
        compat, incompat, _ = struct.unpack_from("<III", block, 0x5C)
        if magic != MAGIC or self._log_size > 6:
            raise FormatError("no superblock of ext2, ext3 or ext4")
        if incompat & ~UNDERSTOOD:
            raise FormatError(
                f"this ext4 has features not understood here (incompat {incompat:#x})",
                hint="Let a kernel read it: blocksnapctl mount, or export.",
            )
        self.block_size = 1024 << self._log_size
        is_old = struct.unpack_from("<I", block, 0x4C)[0] == 0
        self._inode_size = 128 if is_old else struct.unpack_from("<H", block, 0x58)[0]
        if not 128 <= self._inode_size <= self.block_size:
            raise FormatError("an ext4 superblock is damaged")
        low, high = struct.unpack_from("<I", block, 4)[0], struct.unpack_from("<I", block, 0x150)[0]
        self._block_count = min(
            low | (high << 32 if incompat & 0x80 else 0), source.size // self.block_size
        )
        self._groups = GroupTables(source, block, self.block_size, self._block_count)
        self._maps = ExtMaps(source, self.block_size, self._block_count)
        self._has_types = bool(incompat & FILETYPE)
        self._is_large_directory = bool(incompat & 0x4000)
        is_journalled = bool(compat & 0x4)
        self.kind = "ext4" if incompat & EXTENTS else "ext3" if is_journalled else "ext2"
        self.label = block[0x78:0x88].split(b"\0")[0].decode(errors="replace")
        self.notes: list[str] = []
        if incompat & RECOVER:
            self.notes.append(
                "its journal was not replayed: the newest changes may be missing or half done"
            )
        elif not is_journalled and not state & 1:
            self.notes.append("it was not unmounted, and has no journal: it may be inconsistent")

    @property
    def root(self) -> int:
        """The root directory's inode."""
        return ROOT

    def node(self, number: int) -> Node:
        """Return an inode; see ``nodes.FileSystem``."""
        if not 0 < number <= self._inodes:
            raise FormatError(f"there is no inode {number}")
        raw = self.source.read_at(self._groups.inode_at(number, self._inode_size), self._inode_size)
        mode, uid, size = struct.unpack_from("<HHI", raw, 0)
        gid, links = struct.unpack_from("<HH", raw, 0x18)
        size_high, uid_high, gid_high = (
            struct.unpack_from(form, raw, at)[0]
            for form, at in (("<I", 0x6C), ("<H", 0x78), ("<H", 0x7A))
        )
        kind = stat.S_IFMT(mode)
        if kind not in TYPE_NUMBERS.values() or not links or size_high >> 31:
            raise FormatError(f"inode {number} is not in use")
        if kind == stat.S_IFREG or (kind == stat.S_IFDIR and self._is_large_directory):
            size |= size_high << 32
        return Node(
            number, mode, uid | uid_high << 16, gid | gid_high << 16, links, size,
            self._time(raw, 0x08, 0x8C), self._time(raw, 0x10, 0x88), _device(raw, kind), raw,
        )  # fmt: skip

    def entries(self, node: Node) -> Iterator[Entry]:
        """Yield what is in a directory; see ``nodes.FileSystem``."""
        if _flags(node) & _ENCRYPTED:
            raise FormatError("this directory is encrypted")
        if node.size > DIRECTORY_SIZE_MAX:
            raise FormatError(f"a directory of {node.size} bytes cannot be")
        inline = self.inline(node)
        if inline is not None:
            yield from self._names(inline[4:60])  # behind the parent's number
            yield from self._names(inline[60:])
            return
        for run in self.runs(node):
            for at in range(0, run.length, self.block_size):
                yield from self._names(self.source.read_at(run.place + at, self.block_size))

    def runs(self, node: Node) -> Iterator[Run]:
        """Yield where data is; see ``nodes.FileSystem``."""
        if _flags(node) & _ENCRYPTED:
            raise FormatError("it is encrypted")
        read = self._maps.extents if _flags(node) & _IN_EXTENTS else self._maps.indirect
        return read(node.raw[0x28:0x64], node.size)

    def inline(self, node: Node) -> bytes | None:
        """Return what lies in the inode; see ``nodes.FileSystem``."""
        if _flags(node) & _ENCRYPTED:
            raise FormatError("it is encrypted")
        if not _flags(node) & _INLINE:
            return None
        rest = [value for name, value in self._inode_xattrs(node) if name == _DATA_NAME]
        return (node.raw[0x28:0x64] + b"".join(rest[:1]))[: node.size]

    def link(self, node: Node) -> bytes:
        """Return where a symbolic link leads; see ``nodes.FileSystem``."""
        if node.size > LINK_LENGTH_MAX:
            raise FormatError(f"a symbolic link of {node.size} bytes cannot be")
        inline = self.inline(node)
        if inline is not None:
            if len(inline) < node.size:
                raise FormatError("a symbolic link is cut short")
            return checked_link(inline)
        if node.size < 60 and not _flags(node) & _IN_EXTENTS:
            return checked_link(node.raw[0x28 : 0x28 + node.size])
        return checked_link(read_range(self.source, list(self.runs(node)), 0, node.size))

    def xattrs(self, node: Node) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes; see ``nodes.FileSystem``."""
        found = self._inode_xattrs(node)
        low, high = struct.unpack_from("<I", node.raw, 0x68)[0], node.raw[0x76:0x78]
        block = low | int.from_bytes(high, "little") << 32
        if block:
            if block >= self._block_count:
                raise FormatError("the attributes of a file are outside of its file system")
            data = self.source.read_at(block * self.block_size, self.block_size)
            if struct.unpack_from("<I", data)[0] != _XATTR_MAGIC:
                raise FormatError("the attributes of a file are damaged")
            found += self._xattrs(data, 32, 0)
        return [(n, _kernel_value(n, v)) for n, v in found if n != _DATA_NAME]

    def _names(self, block: bytes) -> Iterator[Entry]:
        at, size = 0, len(block)
        while at + _DIRECTORY_ENTRY.size <= size:
            number, length, name_length, kind = _DIRECTORY_ENTRY.unpack_from(block, at)
            if length in (0, 0xFFFF) and size == 0x10000:
                length = size
            if length < 8 or length % 4 or at + length > size or 8 + name_length > length:
                raise FormatError("a directory is damaged")
            name = block[at + 8 : at + 8 + name_length]
            if number and not is_self_or_parent(name):
                known = TYPE_NUMBERS.get(kind, 0) if self._has_types else 0
                yield Entry(checked_name(name), number, known)
            at += length

    def _inode_xattrs(self, node: Node) -> list[tuple[bytes, bytes]]:
        raw = node.raw
        if len(raw) < 0x84:
            return []
        start = 128 + struct.unpack_from("<H", raw, 0x80)[0]
        if start + 4 > len(raw) or struct.unpack_from("<I", raw, start)[0] != _XATTR_MAGIC:
            return []
        return self._xattrs(raw, start + 4, start + 4)

    def _xattrs(self, data: bytes, at: int, values_at: int) -> list[tuple[bytes, bytes]]:
        found = []
        while at + 4 <= len(data) and data[at : at + 4] != b"\0\0\0\0":
            if at + 16 > len(data):
                raise FormatError("the attributes of a file are damaged")
            length, index, offset, inode, size, _ = _XATTR_ENTRY.unpack_from(data, at)
            name = data[at + 16 : at + 16 + length]
            begin = values_at + offset
            value = self._large_value(inode, size) if inode else data[begin : begin + size]
            if len(name) != length or len(value) != size or b"\0" in name:
                raise FormatError("the attributes of a file are damaged")
            if index in _PREFIXES:
                found.append((_PREFIXES[index] + name, value))
            at += 16 + (length + 3 & ~3)
        return found

    def _large_value(self, number: int, size: int) -> bytes:
        node = self.node(number)
        if size > min(node.size, XATTR_SIZE_MAX) or not _flags(node) & _ATTRIBUTE:
            raise FormatError("the attributes of a file are damaged")
        return read_range(self.source, list(self.runs(node)), 0, size)

    def _time(self, raw: bytes, at: int, more_at: int) -> int:
        seconds = int(struct.unpack_from("<i", raw, at)[0])
        if len(raw) < 0x84:
            return seconds * NS
        if 128 + struct.unpack_from("<H", raw, 0x80)[0] < more_at + 4 or len(raw) < more_at + 4:
            return seconds * NS
        more = int(struct.unpack_from("<I", raw, more_at)[0])
        return (seconds + ((more & 3) << 32)) * NS + min(more >> 2, NS - 1)


def _flags(node: Node) -> int:
    return int(struct.unpack_from("<I", node.raw, 0x20)[0])


def _device(raw: bytes, kind: int) -> tuple[int, int]:
    if kind not in (stat.S_IFCHR, stat.S_IFBLK):
        return (0, 0)
    old, new = struct.unpack_from("<II", raw, 0x28)
    if old:
        return (old >> 8 & 0xFF, old & 0xFF)
    return (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)


def _kernel_value(name: bytes, value: bytes) -> bytes:
    return acl_from_ext(value) if name.startswith(b"system.posix_acl_") else value
