"""What a target lacks, as extents: a superset of where the volume differs from its newest point.

More than needed does no harm: what did not change falls out by that target's fingerprints. So two
lists are simply put together, and one of too many extents is made coarser instead of being dropped.

    file    <MAGIC 8> <count u64> <xxh3_64 of the rest> starts u64[count] ends u64[count]

All integers little-endian. Pure.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import xxhash

from blocksnapd.errors import StateError
from blocksnapd.model import Extents

EXTENTS_MAX: Final = 1 << 20  # 16 MiB in the file
_MAGIC: Final = b"BSOWED1\n"
_HEADER: Final = struct.Struct("<8sQQ")

NOTHING: Final = Extents(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64))


def union(one: Extents, other: Extents) -> Extents:
    """Return what either covers, in at most ``EXTENTS_MAX`` extents; coarser if need be."""
    if not len(one) or not len(other):
        return _coarser(other if len(other) else one)
    starts = np.concatenate((one.starts, other.starts))
    ends = np.concatenate((one.ends, other.ends))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    apart = np.flatnonzero(starts[1:] > ends[:-1]) + 1
    begin, last = np.concatenate(([0], apart)), np.concatenate((apart - 1, [len(starts) - 1]))
    return _coarser(Extents(starts[begin], ends[last]))


def _coarser(extents: Extents) -> Extents:
    """Close the smallest gaps until there are no more than ``EXTENTS_MAX`` extents."""
    over = len(extents) - EXTENTS_MAX
    if over <= 0:
        return extents
    gaps = extents.starts[1:] - extents.ends[:-1]
    closed = np.zeros(len(gaps), dtype=bool)
    closed[np.argpartition(gaps, over - 1)[:over]] = True
    return Extents(
        extents.starts[np.concatenate(([True], ~closed))],
        extents.ends[np.concatenate((~closed, [True]))],
    )


def pack(extents: Extents) -> bytes:
    """Return the bytes of a file that holds ``extents``."""
    body = extents.starts.astype("<u8").tobytes() + extents.ends.astype("<u8").tobytes()
    return _HEADER.pack(_MAGIC, len(extents), xxhash.xxh3_64_intdigest(body)) + body


def unpack(data: bytes) -> Extents:
    """Return the extents in a file's bytes.

    Raises:
        StateError: they are not what :func:`pack` wrote.
    """
    head, body = data[: _HEADER.size], data[_HEADER.size :]
    if len(head) == _HEADER.size:
        magic, count, checksum = _HEADER.unpack(head)
        if (magic, 16 * count, checksum) == (_MAGIC, len(body), xxhash.xxh3_64_intdigest(body)):
            columns = np.frombuffer(body, dtype="<u8").astype(np.uint64).reshape(2, -1)
            return Extents(columns[0], columns[1])
    raise StateError(
        "a list of what a target lacks is damaged",
        effect="The next point for that target compares the whole volume; no data is lost.",
    )
