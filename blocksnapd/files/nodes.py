"""What a file system in an image is made of, whichever it is: nodes, names, runs of data. Pure."""

from __future__ import annotations

import stat
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.files.source import Source

NAME_LENGTH_MAX: Final = 255
LINK_LENGTH_MAX: Final = 4096
DIRECTORY_SIZE_MAX: Final = 1 << 30
XATTR_SIZE_MAX: Final = 1 << 16
RUN_SIZE_MAX: Final = 8 << 20
NS: Final = 1_000_000_000

TYPES: Final = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device", stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}  # fmt: skip
# The numbers that directories of ext4 and XFS both use.
TYPE_NUMBERS: Final = {
    1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFCHR, 4: stat.S_IFBLK, 5: stat.S_IFIFO,
    6: stat.S_IFSOCK, 7: stat.S_IFLNK,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """An inode.

    Attributes:
        number: which.
        mode: type and rights, as in ``stat``.
        uid: whose, by the numbers of the host it came from.
        gid: likewise.
        links: how many names it has.
        size: bytes.
        atime_ns: last read, in nanoseconds since the epoch.
        mtime_ns: last written.
        device: (major, minor) of a device node, else (0, 0).
        raw: its bytes, for who reads on.
    """

    number: int
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    atime_ns: int
    mtime_ns: int
    device: tuple[int, int]
    raw: bytes

    @property
    def type(self) -> int:
        """``S_IFREG`` and so on."""
        return stat.S_IFMT(self.mode)

    @property
    def is_directory(self) -> bool:
        """Say whether it is one."""
        return self.type == stat.S_IFDIR

    @property
    def is_link(self) -> bool:
        """Say whether it is a symbolic link."""
        return self.type == stat.S_IFLNK


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory: safe to be one in ours. ``type`` is 0 where only the inode knows."""

    name: bytes
    number: int
    type: int


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes of a file from ``start`` on, and where on the disk they are; between runs are holes."""

    start: int
    place: int
    length: int


class FileSystem(Protocol):
    """Read-only. Blocking.

    Every method may raise what ``Source.read_at`` does, and FormatError: what was read is not what
    this file system would hold.
    """

    kind: str
    label: str
    source: Source
    notes: list[str]

    @property
    def root(self) -> int:
        """The number of the root directory."""

    def node(self, number: int) -> Node:
        """Return an inode."""

    def entries(self, node: Node) -> Iterator[Entry]:
        """Yield what is in a directory, without itself and its parent, as it is stored."""

    def runs(self, node: Node) -> Iterator[Run]:
        """Yield the data of a file, ascending, disjoint, within its size."""

    def inline(self, node: Node) -> bytes | None:
        """Return the content that lies in the inode itself; None: ``runs`` tell.

        What the file's size says beyond it is zero.
        """

    def link(self, node: Node) -> bytes:
        """Return where a symbolic link leads; never empty, without a zero byte."""

    def xattrs(self, node: Node) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes as the kernel would: full names, and values."""


def checked_name(name: bytes) -> bytes:
    """Return a name that can only be one in its directory.

    Raises:
        FormatError: no file system makes such.
    """
    if not name or len(name) > NAME_LENGTH_MAX or b"/" in name or b"\0" in name:
        raise FormatError(f"a directory holds the impossible name {name[:40]!r}")
    return name


def is_self_or_parent(name: bytes) -> bool:
    """Say whether it is one of the two names every directory has."""
    return name in (b".", b"..")


def checked_link(target: bytes) -> bytes:
    """Return where a symbolic link leads.

    Raises:
        FormatError: no file system makes such.
    """
    if not target or len(target) > LINK_LENGTH_MAX or b"\0" in target:
        raise FormatError(f"a symbolic link leads to the impossible {target[:40]!r}")
    return target


class RunCheck:
    """Sees to it that the runs of one file ascend, lie in the file system and end some day.

    Args:
        block_size: bytes.
        block_count: of the file system.
        file_size: bytes; what is behind is cut off.
        total_max: blocks that one file can have: more than there are where files share them.
    """

    def __init__(
        self, block_size: int, block_count: int, file_size: int, total_max: int = 0
    ) -> None:
        self._block_size, self._block_count, self._file_size = block_size, block_count, file_size
        self._total_max = total_max or block_count
        self._next = self._total = 0

    def run(self, first: int, place: int, count: int, *, is_data: bool) -> Run | None:
        """Return the run of ``count`` blocks from ``first``; None: nothing of it is to be read.

        Raises:
            FormatError: it cannot be.
        """
        self._total += count
        if not count or first < self._next or self._total > self._total_max:
            raise FormatError("the map of a file is not in order")
        if is_data and not 0 < place <= place + count <= self._block_count:
            raise FormatError("the map of a file leads out of its file system")
        self._next = first + count
        size = self._block_size
        length = min(count * size, self._file_size - first * size)
        return Run(first * size, place * size, length) if is_data and length > 0 else None


def read_range(source: Source, runs: list[Run], offset: int, length: int) -> bytes:
    """Return bytes of a file out of its runs; holes are zero. Raises as ``Source.read_at``."""
    found, end = bytearray(length), offset + length
    first = bisect_right(runs, offset, key=lambda run: run.start) - 1
    for index in range(max(0, first), len(runs)):
        run = runs[index]
        if run.start >= end:
            break
        low, high = max(offset, run.start), min(end, run.start + run.length)
        if low < high:
            part = source.read_at(run.place + low - run.start, high - low)
            found[low - offset : high - offset] = part
    return bytes(found)
