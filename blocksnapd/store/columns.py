"""Columns of integers as bytes: planes of bytes, compressed. Pure.

See FORMAT.md § 5. ``pack`` and ``unpack`` are inverse for every u64 array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.compression import compress, decompress_exact

if TYPE_CHECKING:
    from blocksnapd.model import U64

_WIDTH_MAX = 8
_ONE = np.uint64(1)
_SIGN = np.uint64(63)


def pack_column(values: U64) -> bytes:
    """Return the column of ``values``, shape (n,)."""
    top = int(values.max()) if len(values) else 0
    width = (top.bit_length() + 7) // 8
    if width == 0:
        return b"\0"
    rows = np.ascontiguousarray(values, dtype="<u8").view(np.uint8).reshape(-1, _WIDTH_MAX)
    planes = np.ascontiguousarray(rows[:, :width].T)
    return bytes([width]) + compress(planes.tobytes())


def unpack_column(data: bytes, count: int) -> U64:
    """Return the ``count`` values of a column.

    Raises:
        RepositoryFormatError: ``data`` is not such a column. Memory is bounded by ``count``.
    """
    if not data or data[0] > _WIDTH_MAX:
        raise RepositoryFormatError("a column has no width, or one above 8")
    width = data[0]
    if width * count == 0:
        if len(data) != 1:
            raise RepositoryFormatError("an empty column has content")
        return np.zeros(count, dtype=np.uint64)
    planes = decompress_exact(memoryview(data)[1:], width * count)
    rows = np.zeros((count, _WIDTH_MAX), dtype=np.uint8)
    rows[:, :width] = np.frombuffer(planes, dtype=np.uint8).reshape(width, count).T
    return rows.view("<u8").reshape(count).astype(np.uint64, copy=False)


def zigzag(differences: U64) -> U64:
    """Return signed differences, given modulo 2**64, as small unsigned numbers."""
    return (differences << _ONE) ^ (np.uint64(0) - (differences >> _SIGN))


def unzigzag(values: U64) -> U64:
    """Return the differences, modulo 2**64, that ``zigzag`` made ``values`` of."""
    return (values >> _ONE) ^ (np.uint64(0) - (values & _ONE))
