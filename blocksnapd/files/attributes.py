"""Access lists as file systems store them → as the kernel hands them to programs. Pure.

Source: Linux, fs/ext4/acl.h (``ext4_acl_entry``), fs/xfs/libxfs/xfs_da_format.h
(``struct xfs_acl_entry``), include/uapi/linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

ENTRIES_MAX: Final = 5461  # as many as fit into an attribute of 64 KiB
_KERNEL_VERSION: Final = 2
_EXT_VERSION: Final = 1
_NAMED: Final = (0x02, 0x08)  # a user, a group: with an id
_NOBODY: Final = 0xFFFFFFFF


def acl_from_ext(value: bytes) -> bytes:
    """Return an access list of ext4 as the kernel's attribute.

    Raises:
        FormatError: it is none.
    """
    entries, at = [], 4
    if len(value) < 4 or struct.unpack_from("<I", value)[0] != _EXT_VERSION:
        raise FormatError("an access list is damaged")
    while at < len(value):
        if at + 4 > len(value):
            raise FormatError("an access list is cut short")
        tag, rights = struct.unpack_from("<HH", value, at)
        at += 4
        who = _NOBODY
        if tag in _NAMED:
            if at + 4 > len(value):
                raise FormatError("an access list is cut short")
            (who,) = struct.unpack_from("<I", value, at)
            at += 4
        entries.append((tag, rights, who))
    return _packed(entries)


def acl_from_xfs(value: bytes) -> bytes:
    """Return an access list of XFS as the kernel's attribute; raises as ``acl_from_ext``."""
    count = struct.unpack_from(">I", value)[0] if len(value) >= 4 else -1
    if not 0 <= count <= ENTRIES_MAX or len(value) < 4 + 12 * count:
        raise FormatError("an access list is damaged")
    found = [struct.unpack_from(">IIHH", value, 4 + 12 * index) for index in range(count)]
    if any(tag > 0xFFFF for tag, *_ in found):
        raise FormatError("an access list is damaged")
    return _packed(
        (tag, rights, who if tag in _NAMED else _NOBODY) for tag, who, rights, _ in found
    )


def _packed(entries: Iterable[tuple[int, int, int]]) -> bytes:
    packed = [struct.pack("<HHI", *entry) for entry in entries]
    return struct.pack("<I", _KERNEL_VERSION) + b"".join(packed)
