"""Finds content of the newest point by its identity. Edge.

    hints    8 bytes each: 24 bits of an identity, the number (40 bits) of a block that had it

The table has room for twice the blocks, up to a limit; what does not fit pushes out something
else, and it is not made durable. So a hint is only where to look: what counts is the fingerprint
of that block in the newest point, all 16 bytes, and its place, which ``places.py`` checks.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.model import NOWHERE, U8, U64
from blocksnapd.runtime import durable
from blocksnapd.ship.rows import has_size, pwrite_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocksnapd.ship.fingerprints import Fingerprints
    from blocksnapd.ship.places import Places, PlacesUpdate

HINTS_NAME = "hints"
HINTS_MAX = 1 << 24
_ENTRY_SIZE = 8
_TAG_SHIFT = np.uint64(40)
_BLOCK_MASK = np.uint64((1 << 40) - 1)
_WAITING_MAX = 1 << 19
_SEGMENT = 1 << 15  # entries that are read and written as one where many hints fall into them
_MANY = 64


def hint_count(block_count: int) -> int:
    """Return how many hints a volume has: a power of two, twice its blocks or more."""
    return min(HINTS_MAX, 1 << max(12, (2 * block_count - 1).bit_length()))


class Hints:
    """The table, read only."""

    def __init__(self, path: str, block_count: int) -> None:
        count = hint_count(block_count)
        self._entries = np.memmap(path, dtype="<u8", mode="r", shape=(count,))
        self._mask = np.uint64(count - 1)

    def get(self, hashes: U8) -> tuple[np.typing.NDArray[np.intp], U64]:
        """Return which of ``hashes`` have a hint, and the block that each of these may be in."""
        lanes = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2)
        entries = self._entries[(lanes[:, 0] & self._mask).view(np.int64)]
        which = np.flatnonzero(entries >> _TAG_SHIFT == lanes[:, 1] >> _TAG_SHIFT)
        return which, entries[which] & _BLOCK_MASK


def has_hints(path: str, block_count: int) -> bool:
    """Return whether there is a table for a volume of so many blocks."""
    return has_size(path, hint_count(block_count) * _ENTRY_SIZE)


def make_hints(path: str, block_count: int, rows: Iterable[tuple[U64, U8]]) -> None:
    """Make the table anew of all ``rows``, blocks and identities; without room there is none."""
    temp = path + "-new"
    try:
        with open(temp, "wb") as file:
            file.truncate(hint_count(block_count) * _ENTRY_SIZE)
        add_hints(temp, block_count, rows)
        durable.publish_over(temp, path)
    except OSError:
        return


def add_hints(path: str, block_count: int, rows: Iterable[tuple[U64, U8]]) -> None:
    """Note in the table which blocks have content of which identity; zeros are passed over.

    A disk that fails or is full loses hints, silently. Memory: 40 bytes for each of
    ``_WAITING_MAX`` rows.
    """
    mask = np.uint64(hint_count(block_count) - 1)
    try:
        with open(path, "r+b", buffering=0) as file:
            for at, entries in _entries(rows, mask):
                _write(file.fileno(), at, entries)
    except OSError:
        return


def _entries(rows: Iterable[tuple[U64, U8]], mask: np.uint64) -> Iterator[tuple[U64, U64]]:
    # Where entries belong, segment by segment, and the entries: as many at a time as can wait.
    waiting: list[tuple[U64, U64]] = []
    count = 0
    for blocks, hashes in rows:
        lanes = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2)
        filled = np.flatnonzero(lanes[:, 0] | lanes[:, 1])
        lanes, blocks = lanes.take(filled, axis=0), blocks.take(filled)
        tags = lanes[:, 1] >> _TAG_SHIFT << _TAG_SHIFT
        waiting.append((lanes[:, 0] & mask, tags | (blocks & _BLOCK_MASK)))
        count += len(blocks)
        if count >= _WAITING_MAX:
            yield _sorted(waiting)
            waiting, count = [], 0
    if count:
        yield _sorted(waiting)


def _sorted(waiting: list[tuple[U64, U64]]) -> tuple[U64, U64]:
    at = np.concatenate([slots for slots, _ in waiting])
    order = np.argsort((at // np.uint64(_SEGMENT)).astype(np.uint16), kind="stable")  # by radix
    return at[order], np.concatenate([entries for _, entries in waiting])[order]


def _write(fd: int, at: U64, entries: U64) -> None:
    edges = np.flatnonzero(np.diff(at // np.uint64(_SEGMENT))) + 1
    for low, high in itertools.pairwise([0, *edges.tolist(), len(at)]):
        part, values = at[low:high], entries[low:high].astype("<u8")
        if len(part) < _MANY:
            rows = values.view(np.uint8).data
            for row, slot in enumerate(part.tolist()):
                pwrite_all(fd, rows[row * 8 : row * 8 + 8], slot * _ENTRY_SIZE)
            continue
        first = int(part[0]) // _SEGMENT * _SEGMENT
        data = bytearray(os.pread(fd, _SEGMENT * _ENTRY_SIZE, first * _ENTRY_SIZE))
        np.frombuffer(data, dtype="<u8")[(part - np.uint64(first)).view(np.int64)] = values
        pwrite_all(fd, memoryview(data), first * _ENTRY_SIZE)


class Newest:
    """What the newest point holds, by identity: its fingerprints, their places, the hints."""

    def __init__(self, fingerprints: Fingerprints, places: Places, hints: Hints) -> None:
        self._fingerprints, self._hints = fingerprints, hints
        self.places = places

    def find(self, hashes: U8) -> U64:
        """Return the location of content of each identity; see ``ports.KnownContent.find``."""
        found = np.full(len(hashes), NOWHERE)
        which, blocks = self._hints.get(hashes)
        same = (self._fingerprints.get(blocks) == hashes[which]).all(axis=1)
        which, blocks = which[same], blocks[same]
        found[which] = self.places.find(blocks, hashes[which])
        return found


class Content:
    """A ``ports.KnownContent``: of the newest point, if anything is known, and of the next."""

    def __init__(self, newest: Newest | None, update: PlacesUpdate) -> None:
        self._newest, self._update = newest, update

    def find(self, hashes: U8) -> U64:
        """Return the location of content of each identity; see ``ports.KnownContent.find``."""
        if self._newest is None:
            return np.full(len(hashes), NOWHERE)
        return self._newest.find(hashes)

    def pack(self, number: int) -> bytes:
        """Return the record of a pack that ``find`` named."""
        assert self._newest is not None
        return self._newest.places.pack(number)

    def note(self, blocks: U64, hashes: U8, locations: U64) -> None:
        """Note where ``blocks`` of the point under way lie; see ``ports.KnownContent.note``."""
        places = self._newest.places if self._newest else None
        self._update.note(blocks, hashes, locations, places)
