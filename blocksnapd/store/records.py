"""MessagePack bytes to typed records, with one error for whatever may be wrong with them. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from blocksnapd.errors import RepositoryFormatError

T = TypeVar("T")


def pack_record(record: msgspec.Struct) -> bytes:
    """Return the record as a map of its fields."""
    return msgspec.msgpack.encode(record)


def unpack_record(data: bytes | memoryview, kind: type[T], what: str) -> T:
    """Return the record of ``kind`` in ``data``; unknown fields are passed over.

    Raises:
        RepositoryFormatError: it is not one; ``what`` is named.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        # Besides its own errors the library lets those of text and numbers through.
        raise RepositoryFormatError(f"{what} is not readable: {error}") from error
