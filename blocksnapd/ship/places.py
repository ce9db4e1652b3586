"""Where the content of the newest point lies in the repository, on the source's own disk. Edge.

    places-<id>    8 bytes per block: check (24 bits), number of a pack (20), slot (20)
    packs-<id>     256 bytes per pack, from number 1 on: checksum, salt, the sink's record of it

Written as the fingerprints are, see ``fingerprints.py``, and of the same point. What is lost or
damaged here costs room in the repository, never a point: the check binds a place to the pack and
to the identity it was written for, so that no other is taken for it. Numbers of packs are given
in turn; the oldest are given again at last, and what lay in those packs is not found any more.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import xxhash

from blocksnapd.blocks import distinct
from blocksnapd.errors import StateError
from blocksnapd.model import KNOWN_PACK, NOWHERE, PACK_NUMBER_MASK, U8, U64
from blocksnapd.ship.rows import RowsUpdate, apply, has_size

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLACE_SIZE = 8
_PACK = np.dtype([("sum", "<u8"), ("salt", "<u8"), ("size", "<u2"), ("record", "u1", 238)])
RECORD_SIZE_MAX = 238
PACKS_MAX = (1 << 20) - 1
_BITS = np.uint64(20)
_PART_MASK = np.uint64((1 << 20) - 1)
_CHECK_SHIFT = np.uint64(40)
_SLOT_MASK = np.uint64(0xFFFF_FFFF)
_PACK_SHIFT = np.uint64(32)
# Odd 64-bit constants (of SplitMix64): a check need not be secret, only spread out.
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xBF58476D1CE4E5B9)


class PlacesHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files hold the places of a point; ``packs_given`` counts packs since the first."""

    file: str
    packs: str
    is_new: bool
    packs_given: int

    @property
    def pack_rows(self) -> int:
        """Rows in the file of packs."""
        return min(self.packs_given, PACKS_MAX)


class Places:
    """The places of one committed point; read only, one thread."""

    def __init__(self, directory: str, head: PlacesHead, block_count: int) -> None:
        path = os.path.join(directory, head.file)
        self._places = np.memmap(path, dtype="<u8", mode="r", shape=(block_count,))
        self._packs = np.zeros(0, dtype=_PACK)
        if head.pack_rows:
            path = os.path.join(directory, head.packs)
            self._packs = np.memmap(path, dtype=_PACK, mode="r", shape=(head.pack_rows,))
        self._is_checked = np.zeros(head.pack_rows, dtype=np.bool_)
        self._is_whole = np.zeros(head.pack_rows, dtype=np.bool_)

    def find(self, blocks: U64, hashes: U8) -> U64:
        """Return the location of each of ``blocks``, whose identities are ``hashes``.

        ``NOWHERE`` where none is known, or where what is noted does not fit block and pack.
        """
        raw = self._places[blocks]
        numbers = (raw >> _BITS) & _PART_MASK
        good = (numbers >= 1) & (numbers <= len(self._packs))
        good[good] = self._are_whole(numbers[good])
        numbers, slots = numbers[good], raw[good] & _PART_MASK
        good[good] = _place(hashes[good], self.salts(numbers), numbers, slots) == raw[good]
        found = np.full(len(blocks), NOWHERE)
        numbers, slots = (raw[good] >> _BITS) & _PART_MASK, raw[good] & _PART_MASK
        found[good] = KNOWN_PACK | numbers << _PACK_SHIFT | slots
        return found

    def salts(self, numbers: U64) -> U64:
        """Return the salts of packs, shape (n,)."""
        salts: U64 = self._packs["salt"][numbers - np.uint64(1)]
        return salts

    def pack(self, number: int) -> bytes:
        """Return the record of a pack that ``find`` named."""
        row = self._packs[number - 1]
        return bytes(row["record"][: int(row["size"])])

    def _are_whole(self, numbers: U64) -> np.typing.NDArray[np.bool_]:
        rows = (numbers - np.uint64(1)).view(np.int64)
        for row in distinct(rows[~self._is_checked[rows]]).tolist():
            self._is_whole[row] = self._packs[row]["sum"] == _sum(row + 1, self._packs[row])
            self._is_checked[row] = True
        whole: np.typing.NDArray[np.bool_] = self._is_whole[rows]
        return whole


class PlacesUpdate:
    """Collects where the content of a point under way lies. One thread.

    A disk without room ends it: the point is made all the same, without places.
    """

    def __init__(
        self, directory: str, point_id: str, base: PlacesHead | None, block_count: int
    ) -> None:
        self._directory, self._point_id = directory, point_id
        names = base or PlacesHead(f"places-{point_id}", f"packs-{point_id}", True, 0)
        self._head = msgspec.structs.replace(names, is_new=base is None)
        self._salt = np.uint64(secrets.randbits(64))
        self._block_count = block_count
        self._rows: RowsUpdate | None = self._open(names.file, _PLACE_SIZE, block_count)

    def note(self, blocks: U64, hashes: U8, locations: U64, base: Places | None) -> None:
        """Note where ``blocks`` lie; packs with ``KNOWN_PACK`` are those that ``base`` numbers."""
        if self._rows is None:
            return
        numbers = (locations >> _PACK_SHIFT) & PACK_NUMBER_MASK
        slots = locations & _SLOT_MASK
        own = locations < KNOWN_PACK
        numbers[own] = self._numbers(numbers[own])
        salts = np.full(len(blocks), self._salt)
        if base is not None:
            salts[~own] = base.salts(numbers[~own])
        places = _place(hashes, salts, numbers, slots)
        places[slots > _PART_MASK] = 0
        try:
            self._rows.put(blocks, places.astype("<u8").view(np.uint8).reshape(-1, _PLACE_SIZE))
        except OSError:
            self.close()

    def seal(self, records: Sequence[bytes]) -> PlacesHead | None:
        """Make it durable; return what tells of it, None when there are no places.

        Args:
            records: of the point's own packs, in the order that locations count them.
        """
        given = self._head.packs_given + len(records)
        head = msgspec.structs.replace(self._head, packs_given=given)
        if self._rows is None or any(len(record) > RECORD_SIZE_MAX for record in records):
            return None
        try:
            self._rows.seal()
            packs = self._open(head.packs, _PACK.itemsize, head.pack_rows)
            if packs is None:
                return None
            numbers = self._numbers(np.arange(len(records), dtype=np.uint64))
            packs.put(numbers - np.uint64(1), self._pack_rows(numbers, records))
            packs.seal()
        except OSError:
            return None
        return head

    def close(self) -> None:
        """Let the file go; noted is nothing any more."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _open(self, name: str, row_size: int, count: int) -> RowsUpdate | None:
        pending = "" if self._head.is_new else _pending(name, self._point_id)
        path = os.path.join(self._directory, pending)
        try:
            return RowsUpdate(
                os.path.join(self._directory, name), path if pending else "",
                row_size=row_size, count=count,
            )  # fmt: skip
        except OSError:
            return None

    def _numbers(self, ordinals: U64) -> U64:
        # Numbers of the session's own packs: those after the base's, from 1 again at the end.
        given = ordinals + np.uint64(self._head.packs_given)
        return given % np.uint64(PACKS_MAX) + np.uint64(1)

    def _pack_rows(self, numbers: U64, records: Sequence[bytes]) -> U8:
        rows = np.zeros(len(records), dtype=_PACK)
        for row, number, record in zip(rows, numbers.tolist(), records, strict=True):
            row["salt"], row["size"] = self._salt, len(record)
            row["record"][: len(record)] = np.frombuffer(record, dtype=np.uint8)
            row["sum"] = _sum(number, row)
        return rows.view(np.uint8).reshape(-1, _PACK.itemsize)


def finish_places(
    directory: str, new: PlacesHead, old: PlacesHead | None, *, point_id: str, block_count: int
) -> PlacesHead | None:
    """Apply what was sealed for a point that is committed now; None when its places are lost."""
    try:
        if not new.is_new:
            if old is None or (old.file, old.packs) != (new.file, new.packs):
                return None
            for name, row_size, count in _files(new, block_count):
                apply(
                    os.path.join(directory, name),
                    os.path.join(directory, _pending(name, point_id)),
                    row_size=row_size, count=count,
                )  # fmt: skip
    except (OSError, StateError):
        return None
    return whole_places(directory, new, block_count)


def whole_places(directory: str, head: PlacesHead | None, block_count: int) -> PlacesHead | None:
    """Return ``head`` if its files are as large as they should be, or None."""
    if head is None:
        return None
    files = _files(head, block_count)
    if any(os.path.basename(name) != name for name, _, _ in files):
        return None
    good = all(has_size(os.path.join(directory, n), size * count) for n, size, count in files)
    return head if good else None


def _files(head: PlacesHead, block_count: int) -> tuple[tuple[str, int, int], ...]:
    return (head.file, _PLACE_SIZE, block_count), (head.packs, _PACK.itemsize, head.pack_rows)


def _pending(name: str, point_id: str) -> str:
    return f"pending-{name.partition('-')[0]}-{point_id}"


def _place(hashes: U8, salts: U64, numbers: U64, slots: U64) -> U64:
    place = numbers << _BITS | (slots & _PART_MASK)
    check = np.ascontiguousarray(hashes).view(np.uint64)[:, 0] ^ salts ^ (place * _MIX_A)
    check ^= check >> np.uint64(29)
    check *= _MIX_B
    check ^= check >> np.uint64(32)
    return (check >> _CHECK_SHIFT << _CHECK_SHIFT) | place


def _sum(number: int, row: np.void) -> int:
    return xxhash.xxh3_64_intdigest(number.to_bytes(8, "little") + row.tobytes()[8:])
