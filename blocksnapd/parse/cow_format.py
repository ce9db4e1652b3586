"""The bytes of a persistent dm-snapshot COW device.

    chunk 0            header, 16 bytes used
    chunk 1            exception area 0: chunk_size / 16 entries of 16 bytes
    next chunks        the saved data of area 0, one chunk for each of its entries
    ...                area 1, its data, and so on

    header             u32 magic "SnAp", u32 valid, u32 version, u32 chunk size in sectors
    entry              u64 old_chunk (counted on the origin), u64 new_chunk (on the COW device)

All integers are little-endian. An entry whose ``new_chunk`` is 0 ends the
table: chunk 0 is the header, so it can never hold data. A transient snapshot
has none of this; its data begins at chunk 0.

The kernel would take any power of two as chunk size. Here it is 4 KiB to
512 KiB, what lvm2 makes: below, direct reads could not be aligned; above, one
area alone would hold more than 32768 entries and nobody writes such devices.

Rules of this file: ``pack`` beside ``unpack``; bytes from outside give a value
or a ``CowFormatError``; arguments of our own that are wrong give ``ValueError``.
Pure: bytes in, values out.

Source: Linux 6.1, drivers/md/dm-snap-persistent.c (``struct disk_header``,
``struct disk_exception``, ``area_location``, ``skip_metadata``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import CowFormatError, CowInvalidError, CowTransientError
from blocksnapd.units import SECTOR_SIZE

if TYPE_CHECKING:
    from blocksnapd.model import U64

MAGIC = 0x70416E53  # "SnAp"
VERSION = 1
HEADER_SIZE = 16
ENTRY_SIZE = 16
CHUNK_SIZE_MIN = 4096
CHUNK_SIZE_MAX = 512 * 1024

_HEADER = struct.Struct("<4I")
_ENTRY_WORD = np.dtype("<u8")


def damaged(message: str) -> CowFormatError:
    """Return the error for a COW device that the kernel would not have written this way."""
    return CowFormatError(
        message,
        effect="Nothing in this snapshot's change list can be trusted; no point was made from it.",
        hint="The volume's next run compares everything; look at the kernel log for the COW disk.",
    )


@dataclass(frozen=True, slots=True)
class Header:
    """What chunk 0 says. ``chunk_size`` is bytes; ``valid`` is False once the kernel gave up."""

    chunk_size: int
    valid: bool = True

    def __post_init__(self) -> None:
        if not is_chunk_size(self.chunk_size):
            raise ValueError(
                f"chunk size {self.chunk_size} is not a power of two"
                f" from {CHUNK_SIZE_MIN} to {CHUNK_SIZE_MAX} bytes"
            )

    def pack(self) -> bytes:
        """Return the 16 bytes at offset 0; the rest of chunk 0 is zero."""
        return _HEADER.pack(MAGIC, int(self.valid), VERSION, self.chunk_size // SECTOR_SIZE)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Header:
        """Return the header that ``data``, the device's first bytes, begins with.

        An invalid snapshot has a header, too: ask ``require_valid`` before using the table.

        Raises:
            CowTransientError: the magic number is not there.
            CowFormatError: fewer than 16 bytes, or a version, validity or chunk size that is
                none.
        """
        if len(data) < HEADER_SIZE:
            raise damaged(f"The COW device ends after {len(data)} bytes; a header needs 16.")
        magic, valid, version, sectors = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise _not_persistent(magic)
        if version != VERSION:
            raise damaged(f"The COW header (offset 8) has version {version}, wanted {VERSION}.")
        if valid > 1:
            raise damaged(f"The COW header (offset 4) has validity {valid}, wanted 0 or 1.")
        if not is_chunk_size(sectors * SECTOR_SIZE):
            raise damaged(
                f"The COW header (offset 12) has a chunk size of {sectors} sectors, wanted a power"
                f" of two from {CHUNK_SIZE_MIN // SECTOR_SIZE} to {CHUNK_SIZE_MAX // SECTOR_SIZE}."
            )
        return cls(sectors * SECTOR_SIZE, bool(valid))

    def require_valid(self) -> None:
        """Refuse a snapshot that the kernel gave up.

        Raises:
            CowInvalidError: ``valid`` is False.
        """
        if not self.valid:
            raise CowInvalidError(
                "The kernel gave this snapshot up: its COW header (offset 4) says invalid.",
                effect="Changes since then were not tracked; the volume itself is not affected.",
                hint="The next run compares the whole volume. The COW device was full or failed.",
            )


def _not_persistent(magic: int) -> CowTransientError:
    return CowTransientError(
        f"There is no persistent COW header: offset 0 holds {magic:#010x}, wanted {MAGIC:#010x}.",
        effect="A transient snapshot keeps no list of changes, so none can be read.",
        hint="Make the snapshot persistent (target argument P), or check the device's name.",
    )


def is_chunk_size(size: int) -> bool:
    """Return whether ``size`` bytes is a chunk size this program reads."""
    return CHUNK_SIZE_MIN <= size <= CHUNK_SIZE_MAX and size & (size - 1) == 0


def entries_per_area(chunk_size: int) -> int:
    """Return how many entries one exception area holds; an area is exactly one chunk."""
    return chunk_size // ENTRY_SIZE


def area_stride(chunk_size: int) -> int:
    """Return the bytes from the start of one exception area to the start of the next."""
    return (entries_per_area(chunk_size) + 1) * chunk_size


def area_chunk(area: int, chunk_size: int) -> int:
    """Return the COW chunk that exception area ``area`` lies in, counted from 0."""
    return 1 + area * (entries_per_area(chunk_size) + 1)


def data_chunk(index: int, chunk_size: int) -> int:
    """Return the COW chunk that the kernel gives to exception ``index``, counted from 0."""
    return 2 + index + index // entries_per_area(chunk_size)


def entry_offset(index: int, chunk_size: int) -> int:
    """Return the byte offset of entry ``index`` on the COW device."""
    area, slot = divmod(index, entries_per_area(chunk_size))
    return area_chunk(area, chunk_size) * chunk_size + slot * ENTRY_SIZE


def areas_within(cow_size: int, chunk_size: int) -> int:
    """Return how many whole exception areas a COW device of ``cow_size`` bytes has room for."""
    return (cow_size // chunk_size - 2) // (entries_per_area(chunk_size) + 1) + 1


def chunk_count(size: int, chunk_size: int) -> int:
    """Return the chunks of a volume of ``size`` bytes; the last one may be partial."""
    return -(-size // chunk_size)


def bytes_needed(entries: int, chunk_size: int) -> int:
    """Return the smallest COW device that holds ``entries`` exceptions.

    Header, data, and every area up to the one that ends the table: when the last one is
    exactly full, an empty one follows it.
    """
    return (2 + entries + entries // entries_per_area(chunk_size)) * chunk_size


def cow_size_max(origin_size: int, chunk_size: int) -> int:
    """Return the largest useful COW device for an origin: one of this size cannot overflow."""
    return bytes_needed(chunk_count(origin_size, chunk_size), chunk_size)


def pack_area(old: U64, new: U64, chunk_size: int) -> bytes:
    """Return one exception area: the entries ``old[i]`` to ``new[i]``, then zeros.

    Raises:
        ValueError: more entries than an area holds, or a ``new`` of 0, the end mark.
    """
    if not len(old) == len(new) <= entries_per_area(chunk_size):
        raise ValueError(f"{len(old)} and {len(new)} entries do not fit an area of {chunk_size}")
    if not np.all(new):
        raise ValueError("new_chunk 0 is the end mark and no entry")
    words = np.zeros((entries_per_area(chunk_size), 2), dtype=_ENTRY_WORD)
    words[: len(old), 0] = old
    words[: len(new), 1] = new
    return words.tobytes()


def unpack_areas(data: bytes | bytearray | memoryview) -> tuple[U64, U64]:
    """Return old_chunk and new_chunk of every entry slot of one or more areas, back to back.

    The arrays are strided views into ``data``, end mark and leftovers included; ``end_mark``
    says where the entries stop. ``data`` holds a whole number of entries.
    """
    words = np.frombuffer(data, dtype=_ENTRY_WORD).reshape(-1, 2)
    return words[:, 0], words[:, 1]


def end_mark(new: U64) -> int:
    """Return how many entries come before the first ``new_chunk`` of 0; all, if there is none."""
    zeros = new == 0
    first = int(zeros.argmax()) if len(zeros) else 0
    return first if len(zeros) and zeros[first] else len(new)
