"""XFS, versions 4 and 5, read as it lies on the disk: without its log, without a kernel. Pure.

Source: Linux, fs/xfs/libxfs/xfs_format.h (``struct xfs_dinode``, ``xfs_dsymlink_hdr``).
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError
from blocksnapd.files import xfs_log
from blocksnapd.files.nodes import (
    DIRECTORY_SIZE_MAX,
    LINK_LENGTH_MAX,
    NS,
    TYPE_NUMBERS,
    Node,
    checked_link,
    read_range,
)
from blocksnapd.files.xfs_attributes import XfsAttributes
from blocksnapd.files.xfs_directories import block_entries, short_entries
from blocksnapd.files.xfs_maps import Geometry, XfsMaps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.nodes import Entry, Run
    from blocksnapd.files.source import Source

DEVICE, LOCAL, LISTED, TREE = 0, 1, 2, 3
_NEEDS_REPAIR: Final = 0x10
_REALTIME, _BIGTIME, _MANY_EXTENTS = 1, 8, 16
_LINK_HEADER: Final = 56


class Xfs:
    """A file system; see ``nodes.FileSystem``."""

    kind = "xfs"

    def __init__(self, source: Source) -> None:
        """Read the superblock.

        Raises:
            FormatError: there is none that can be read. What ``Source.read_at`` raises.
        """
        self.source = source
        self._geometry = Geometry(source.read_at(0, 512))
        self._maps = XfsMaps(source, self._geometry)
        self._attributes = XfsAttributes(source, self._geometry)
        self.label = self._geometry.label
        self.notes: list[str] = []
        if self._geometry.incompat & _NEEDS_REPAIR:
            self.notes.append("it is marked as in need of xfs_repair")
        if not xfs_log.is_clean(source, self._geometry):
            self.notes.append(
                "its log was not replayed: the newest changes may be missing or half done"
            )

    @property
    def root(self) -> int:
        """The root directory's inode."""
        return self._geometry.root

    def node(self, number: int) -> Node:
        """Return an inode; see ``nodes.FileSystem``."""
        raw = self.source.read_at(self._geometry.inode_at(number), self._geometry.inode_size)
        mode, version = struct.unpack_from(">HB", raw, 2)
        old_links, uid, gid, links = struct.unpack_from(">HIII", raw, 6)
        kind = stat.S_IFMT(mode)
        if raw[:2] != b"IN" or version not in (1, 2, 3) or kind not in TYPE_NUMBERS.values():
            raise FormatError(f"inode {number} is not in use")
        if version == 3 and struct.unpack_from(">Q", raw, 152)[0] != number:
            raise FormatError(f"inode {number} is damaged")
        links = old_links if version == 1 else links
        (size,) = struct.unpack_from(">Q", raw, 56)
        if not links or size >> 63:
            raise FormatError(f"inode {number} is not in use")
        return Node(
            number, mode, uid, gid, links, size, _time(raw, 32), _time(raw, 40),
            self._device(raw, kind), raw,
        )  # fmt: skip

    def entries(self, node: Node) -> Iterator[Entry]:
        """Yield what is in a directory; see ``nodes.FileSystem``."""
        if _format(node) == LOCAL:
            yield from short_entries(self._local(node), has_types=self._geometry.has_types)
            return
        if node.size > DIRECTORY_SIZE_MAX:
            raise FormatError(f"a directory of {node.size} bytes cannot be")
        size = self._geometry.block_size << self._geometry.directory_log
        runs = list(self._runs(node, node.size))  # its indexes lie behind its size
        following = 0
        for run in runs:
            for number in range(
                max(run.start // size, following), -(-(run.start + run.length) // size)
            ):
                block = read_range(self.source, runs, number * size, size)
                following = number + 1
                yield from block_entries(
                    block, is_v5=self._geometry.is_v5, has_types=self._geometry.has_types
                )

    def runs(self, node: Node) -> Iterator[Run]:
        """Yield where data is; see ``nodes.FileSystem``."""
        return self._runs(node, node.size)

    def inline(self, node: Node) -> bytes | None:
        """Return what lies in the inode; see ``nodes.FileSystem``. Files have no such thing."""
        return self._local(node) if _format(node) == LOCAL else None

    def link(self, node: Node) -> bytes:
        """Return where a symbolic link leads; see ``nodes.FileSystem``."""
        if node.size > LINK_LENGTH_MAX:
            raise FormatError(f"a symbolic link of {node.size} bytes cannot be")
        if _format(node) == LOCAL:
            return checked_link(self._local(node))
        header = _LINK_HEADER if self._geometry.is_v5 else 0
        found = b""
        # The bytes on the disk are more than the link has: each piece has a header of its own.
        for run in self._runs(node, LINK_LENGTH_MAX + 8 * (header + self._geometry.block_size)):
            data = self.source.read_at(run.place, min(run.length, 1 << 16))
            if header and data[:4] != b"XSLM":
                raise FormatError("a symbolic link is damaged")
            length = struct.unpack_from(">I", data, 8)[0] if header else len(data)
            found += data[header : header + length]
        if len(found) < node.size:
            raise FormatError("a symbolic link is cut short")
        return checked_link(found[: node.size])

    def xattrs(self, node: Node) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes; see ``nodes.FileSystem``."""
        offset = 8 * node.raw[82]
        if not offset:
            return []
        fork = node.raw[_fork_at(node) + offset :]
        kind = node.raw[83]
        if kind == LOCAL:
            return self._attributes.short(fork)
        if kind not in (LISTED, TREE):
            raise FormatError("the attributes of a file are damaged")
        is_many = _has_many_extents(node)
        count = struct.unpack_from(">I" if is_many else ">H", node.raw, 76 if is_many else 80)[0]
        runs = self._maps.runs(fork, count, is_tree=kind == TREE, size=1 << 35)
        return self._attributes.long(list(runs))

    def _runs(self, node: Node, size: int) -> Iterator[Run]:
        if struct.unpack_from(">H", node.raw, 90)[0] & _REALTIME:
            raise FormatError("its content is on a realtime device, which is not in this point")
        kind = _format(node)
        if kind not in (LISTED, TREE):
            raise FormatError(f"inode {node.number} is damaged")
        is_many = _has_many_extents(node)
        (count,) = struct.unpack_from(">Q" if is_many else ">I", node.raw, 24 if is_many else 76)
        return self._maps.runs(self._fork(node), count, is_tree=kind == TREE, size=size)

    def _fork(self, node: Node) -> bytes:
        start, offset = _fork_at(node), 8 * node.raw[82]
        return node.raw[start : start + offset] if offset else node.raw[start:]

    def _local(self, node: Node) -> bytes:
        fork = self._fork(node)
        if node.size > len(fork):
            raise FormatError("what lies in an inode is cut short")
        return fork[: node.size]

    def _device(self, raw: bytes, kind: int) -> tuple[int, int]:
        if kind not in (stat.S_IFCHR, stat.S_IFBLK) or raw[5] != DEVICE:
            return (0, 0)
        (number,) = struct.unpack_from(">I", raw, 176 if raw[4] == 3 else 100)
        return (number >> 18 & 0x3FFF, number & 0x3FFFF)


def _format(node: Node) -> int:
    return node.raw[5]


def _fork_at(node: Node) -> int:
    return 176 if node.raw[4] == 3 else 100


def _flags2(raw: bytes) -> int:
    return int(struct.unpack_from(">Q", raw, 120)[0]) if raw[4] == 3 else 0


def _has_many_extents(node: Node) -> bool:
    return bool(_flags2(node.raw) & _MANY_EXTENTS)


def _time(raw: bytes, at: int) -> int:
    if _flags2(raw) & _BIGTIME:
        return int(struct.unpack_from(">Q", raw, at)[0]) - (NS << 31)
    seconds, more = struct.unpack_from(">iI", raw, at)
    return int(seconds * NS + min(more, NS - 1))
