"""What a disk holds, by the marks its makers leave on it. Pure: bytes in, a name out.

Just enough to ask before overwriting: not finding a mark does not prove that a disk is empty.

Source: the on-disk format pages of each: LVM2 label, md superblock 1.x, LUKS header, GPT and MBR,
XFS, ext2/3/4, btrfs, swap, NTFS, FAT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Signature:
    """A mark that was found. ``is_member``: other devices live on this one."""

    name: str
    is_member: bool


_LVM = Signature("an LVM physical volume", is_member=True)
_MD = Signature("a member of an MD RAID", is_member=True)
_MD_MAGIC = bytes.fromhex("fc4e2ba9")

# (what it is, offset of its mark, the mark); members before what may lie inside them.
_AT_START = (
    *((_LVM, sector * _SECTOR, b"LABELONE") for sector in range(4)),
    (_MD, 0, _MD_MAGIC),
    (_MD, 4096, _MD_MAGIC),
    (Signature("a LUKS container", is_member=False), 0, b"LUKS\xba\xbe"),
    (Signature("an XFS file system", is_member=False), 0, b"XFSB"),
    (Signature("an ext2/3/4 file system", is_member=False), 1024 + 56, b"\x53\xef"),
    (Signature("a btrfs file system", is_member=False), 65536 + 64, b"_BHRfS_M"),
    (Signature("swap space", is_member=False), 4096 - 10, b"SWAPSPACE2"),
    (Signature("an NTFS file system", is_member=False), 3, b"NTFS    "),
    (Signature("a partition table", is_member=False), _SECTOR, b"EFI PART"),
    (Signature("a partition table or boot sector", is_member=False), 510, b"\x55\xaa"),
)


def find(read: Callable[[int, int], bytes], size: int) -> Signature | None:
    """Return what a disk of ``size`` bytes holds, or None if nothing is recognised.

    ``read(offset, length)`` returns bytes of it, and is only asked for bytes inside of it.
    """
    for signature, offset, mark in _AT_START:
        if offset + len(mark) <= size and read(offset, len(mark)) == mark:
            return signature
    if size >= 65536 and read(_md_end_offset(size), len(_MD_MAGIC)) == _MD_MAGIC:
        return _MD
    return None


def _md_end_offset(size: int) -> int:
    # Superblock 1.0: at least 8 KiB from the end, on a 4 KiB border.
    return (size // _SECTOR - 16) // 8 * 8 * _SECTOR
