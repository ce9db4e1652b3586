"""The clear beginning of points and manifests: what it is, its format, a header. Pure.

    magic (8) | u32 1 | u32 header size | header

See FORMAT.md §§ 7 and 12. Nothing here is authenticated: a tag or a box is, that covers it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.records import pack_record, unpack_record

if TYPE_CHECKING:
    import msgspec

FORMAT = 1
HEADER_SIZE_MAX = 65536
_PREFIX = struct.Struct("<8sII")
PREFIX_SIZE = _PREFIX.size

T = TypeVar("T")


def pack_clear(magic: bytes, header: msgspec.Struct) -> bytes:
    """Return the bytes of a header and what comes before it."""
    data = pack_record(header)
    return _PREFIX.pack(magic, FORMAT, len(data)) + data


def unpack_clear(
    data: bytes, name: str, *, magic: bytes, kind: type[T], what: str
) -> tuple[T, bytes]:
    """Return the header at the start of an object, and all clear bytes.

    Args:
        data: the object, or its beginning.
        name: of the object, for errors.
        magic: its first bytes.
        kind: of the header.
        what: it is, with its article.

    Raises:
        RepositoryFormatError: it is something else, of another format, or has no such header.
    """
    if len(data) < PREFIX_SIZE or data[:8] != magic:
        raise RepositoryFormatError(f"{name} is not {what}: its first bytes are another's")
    _, version, size = _PREFIX.unpack_from(data)
    if version != FORMAT:
        raise RepositoryFormatError(
            f"{name} is {what} of format {version}, this program reads {FORMAT}",
            hint="Use a newer blocksnapd.",
        )
    clear = data[: PREFIX_SIZE + size]
    if size > HEADER_SIZE_MAX or len(clear) < PREFIX_SIZE + size:
        raise RepositoryFormatError(f"{name} ends within its header")
    return unpack_record(clear[PREFIX_SIZE:], kind, f"the header of {name}"), clear
