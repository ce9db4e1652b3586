"""Walks the exception areas of a COW device, within bounds, into two arrays.

The walk follows the prefix rule: area n + 1 means something only if area n is
full. The kernel zeroes area n + 1 before it writes the last entry of area n,
and zeroes nothing else: behind the end mark lie leftovers of older snapshots
that look like good entries. So areas must be read in order, each after the one
before it, and nothing behind the first ``new_chunk`` of 0 is looked at.

What makes it fast: a port that reads many areas at once (they lie at a regular
stride), numpy over some 65,536 entries at a time while they are in the
processor's cache, and columns that are not copied when they grow. There is no
Python object per entry. Memory: 16 bytes per entry while it reads (18 beyond
2**26 entries), 20 while it looks for repeats (24 where the origin has more than
2**32 chunks), and about 3 MiB.

Rules: bytes from outside give a table or a ``CowFormatError`` that holds the
offset, the number seen and the number wanted. Pure: the reader is handed in.

Source: Linux 6.1, drivers/md/dm-snap-persistent.c (``read_exceptions``,
``insert_exceptions``, ``persistent_commit_exception``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_format import Header, damaged

if TYPE_CHECKING:
    from blocksnapd.errors import CowFormatError
    from blocksnapd.model import U64

ENTRIES_MAX = 1 << 28  # 1 TiB changed in 4 KiB chunks; the table then takes 4 GiB
READ_SIZE_MAX = 1 << 20  # bytes of areas asked for at once
HEADER_READ_SIZE = 512  # the least a direct read can bring

_SCAN_ENTRIES = READ_SIZE_MAX // cow_format.ENTRY_SIZE
# Pages of a fresh column that nothing was written to cost address space, not memory (unless the
# process locked its future memory). Beyond this size columns grow, which costs a third more time.
_CAPACITY_FIRST = 1 << 26


class StridedRead(Protocol):
    """How the walk gets its bytes."""

    def __call__(self, offset: int, length: int, count: int, stride: int) -> memoryview:
        """Return ``count`` pieces of ``length`` bytes, back to back.

        Piece i begins at ``offset + i * stride`` and is read after piece i - 1. All of them lie
        within the device. The memory may be used again by the next call.
        """


@dataclass(frozen=True, slots=True, eq=False)
class ExceptionTable:
    """All exceptions, in allocation order.

    What origin chunk ``old[i]`` held when the snapshot was taken lies at COW chunk ``new[i]``.
    Each ``old`` is unique and within the origin; each ``new`` is unique, within the COW device,
    and neither the header nor an area. ``chunk_size`` is bytes. The arrays are read-only.
    """

    chunk_size: int
    old: U64
    new: U64

    def __len__(self) -> int:
        return len(self.old)


def read_table(
    read: StridedRead, cow_size: int, *, origin_size: int, entries_max: int = ENTRIES_MAX
) -> ExceptionTable:
    """Read header and exception table of a COW device of ``cow_size`` bytes.

    Asks for at most twice as many areas as the table has. Blocks as ``read`` does.

    Args:
        read: The device's bytes, fresh.
        cow_size: Bytes of the COW device.
        origin_size: Bytes of the origin that the snapshot was taken of.
        entries_max: More entries than this are refused.

    Raises:
        CowTransientError: no persistent header.
        CowInvalidError: the kernel gave the snapshot up.
        CowFormatError: the header is damaged; an entry names a chunk that does not exist, holds an
            area, or was named before; there are more entries than ``entries_max`` or than the
            origin has chunks; the device ends before the area that would end the table.
    """
    header = Header.unpack(read(0, min(cow_size, HEADER_READ_SIZE), 1, 0))
    header.require_valid()
    chunk_size = header.chunk_size
    areas = cow_format.areas_within(cow_size, chunk_size)
    walk = _Walk(chunk_size, cow_size, origin_size, entries_max)
    area, step = 0, 1
    while area < areas:
        step = min(step, areas - area)
        offset = cow_format.area_chunk(area, chunk_size) * chunk_size
        data = read(offset, chunk_size, step, cow_format.area_stride(chunk_size))
        if not walk.take(data):
            return walk.finish()
        area += step
        # Doubling: a short table on a slow disk must not cost a read of many far-apart areas.
        step = min(step * 2, READ_SIZE_MAX // chunk_size)
    raise damaged(
        f"The COW device of {cow_size} bytes ends before its exception table does: {areas} areas"
        f" are full, and an area is wanted at offset"
        f" {cow_format.area_chunk(areas, chunk_size) * chunk_size}."
    )


class _Walk:
    """The table so far: columns that grow, and the checks each part passes as it comes in."""

    def __init__(self, chunk_size: int, cow_size: int, origin_size: int, entries_max: int) -> None:
        self._chunk_size = chunk_size
        self._cow_chunks = cow_size // chunk_size
        self._origin_chunks = cow_format.chunk_count(origin_size, chunk_size)
        self._entries_max = min(entries_max, self._origin_chunks)
        self._count = 0
        self._old = _fresh_column(min(self._entries_max, _CAPACITY_FIRST))
        self._new = _fresh_column(len(self._old))
        # Whether every entry so far lies where the kernel's allocator puts it. All that were ever
        # seen do; it makes most checks of new_chunk needless, but nothing rests on it.
        self._regular = True
        slots = np.arange(_SCAN_ENTRIES, dtype=np.uint64)
        self._pattern = slots + slots // np.uint64(cow_format.entries_per_area(chunk_size))

    def take(self, data: memoryview) -> bool:
        """Take the next whole areas in ``data``; return whether the table goes on behind them."""
        old, new = cow_format.unpack_areas(data)
        end = cow_format.end_mark(new)
        start, stop = self._count, self._count + end
        if stop > self._entries_max:
            raise self._too_many()
        self._reserve(stop)
        self._old[start:stop] = old[:end]
        self._new[start:stop] = new[:end]
        self._count = stop
        if end:
            self._check_bounds(start, stop)
            first = np.uint64(cow_format.data_chunk(start, self._chunk_size))
            expected = self._pattern[:end] + first
            self._regular = self._regular and np.array_equal(self._new[start:stop], expected)
        return end == len(new)

    def finish(self) -> ExceptionTable:
        """Return the table, after the checks that need all of it."""
        for column in (self._old, self._new):
            column.resize(self._count, refcheck=False)
            column.flags.writeable = False
        self._check_unique(self._old, self._origin_chunks, "origin chunk")
        if not self._regular:
            self._check_no_area()
            self._check_unique(self._new, self._cow_chunks, "COW chunk")
        return ExceptionTable(self._chunk_size, self._old, self._new)

    def _reserve(self, entries: int) -> None:
        for column in (self._old, self._new):
            if entries > len(column):
                # The C library moves the pages of so large a column instead of copying it. No view
                # of a column outlives the method that made it.
                capacity = max(entries, len(column) * 9 // 8)
                column.resize(min(capacity, self._entries_max), refcheck=False)

    def _check_bounds(self, start: int, stop: int) -> None:
        for column, limit, name in (
            (self._old, self._origin_chunks, "origin chunk"),
            (self._new, self._cow_chunks, "COW chunk"),
        ):
            part = column[start:stop]
            if int(part.max()) >= limit:
                index = start + int((part >= np.uint64(limit)).argmax())
                raise self._bad_entry(index, f"names {name} {column[index]}, wanted below {limit}")

    def _check_no_area(self) -> None:
        stride = np.uint64(cow_format.area_stride(self._chunk_size) // self._chunk_size)
        for start in range(0, self._count, _SCAN_ENTRIES):
            part = self._new[start : start + _SCAN_ENTRIES]
            areas = (part - np.uint64(1)) % stride == 0
            if areas.any():
                index = start + int(areas.argmax())
                raise self._bad_entry(
                    index,
                    f"names COW chunk {self._new[index]}, which holds an exception area; wanted"
                    f" {cow_format.data_chunk(index, self._chunk_size)}",
                )

    def _check_unique(self, column: U64, limit: int, name: str) -> None:
        chunk = _repeated(column, limit)
        if chunk is not None:
            first, second = np.flatnonzero(column == np.uint64(chunk))[:2]
            raise self._bad_entry(
                int(second), f"names {name} {chunk} again, wanted once; entry {first} has it"
            )

    def _too_many(self) -> CowFormatError:
        offset = cow_format.entry_offset(self._entries_max, self._chunk_size)
        return damaged(
            f"The exception table goes on at offset {offset} after {self._entries_max} entries,"
            f" the most it may have; the origin has {self._origin_chunks} chunks."
        )

    def _bad_entry(self, index: int, what: str) -> CowFormatError:
        offset = cow_format.entry_offset(index, self._chunk_size)
        return damaged(f"Exception {index} at offset {offset} {what}.")


def _fresh_column(capacity: int) -> U64:
    """Return an array that is not filled, shorter where the system has not even the addresses."""
    while True:
        try:
            return np.empty(capacity, dtype=np.uint64)
        except MemoryError:
            if capacity <= _SCAN_ENTRIES:
                raise
            capacity //= 2


def _repeated(chunks: U64, limit: int) -> int | None:
    """Return a number that ``chunks``, all below ``limit``, holds twice; None if all differ."""
    ordered = chunks.astype(np.uint32 if limit <= 1 << 32 else np.uint64)
    ordered.sort()
    for start in range(0, len(ordered) - 1, _SCAN_ENTRIES):
        part = ordered[start : start + _SCAN_ENTRIES + 1]
        same = part[1:] == part[:-1]
        if same.any():
            return int(part[same.argmax()])
    return None
