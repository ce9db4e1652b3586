"""Images of COW devices for tests: a generator that writes what the kernel would, and a damager.

An image is sparse, so that chunks of 512 KiB and devices of terabytes cost only what is in
them. ``CowImage.read_pieces`` is the port that ``read_table`` wants; it refuses to read
outside the device, which makes every test a test of the walk's bounds.

Sizes are drawn around the format's own borders: a full area, one entry more, one less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_format import Header

if TYPE_CHECKING:
    import os

U64 = NDArray[np.uint64]
Damage = Callable[["CowImage"], None]

CHUNK_SIZES = [4096 << n for n in range(8)]  # 4 KiB to 512 KiB
U64_MAX = (1 << 64) - 1


# --- the image -------------------------------------------------------------------------------


@dataclass
class CowImage:
    """A COW device in memory; chunks that were never written read as zeros."""

    chunk_size: int
    size: int
    entries: int = 0
    chunks: dict[int, bytearray] = field(default_factory=dict)
    pieces_read: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; asking for any outside the device is the reader's failure."""
        assert offset >= 0, f"offset {offset}"
        assert offset + length <= self.size, f"{offset}+{length} is behind the end {self.size}"
        parts = []
        for number, skip, part in self._split(offset, length):
            chunk = self.chunks.get(number)
            parts.append(bytes(part) if chunk is None else chunk[skip : skip + part])
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Write anywhere; what lies behind the device's end is lost."""
        done = 0
        for number, skip, part in self._split(offset, min(len(data), self.size - offset)):
            chunk = self.chunks.setdefault(number, bytearray(self.chunk_size))
            chunk[skip : skip + part] = data[done : done + part]
            done += part

    def read_pieces(self, offset: int, length: int, count: int, stride: int) -> memoryview:
        """Serve ``StridedRead``."""
        self.pieces_read += count
        return memoryview(b"".join(self.read(offset + i * stride, length) for i in range(count)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image as a sparse file."""
        with open(path, "wb") as file:
            file.truncate(self.size)
            for number, chunk in self.chunks.items():
                file.seek(number * self.chunk_size)
                file.write(chunk[: max(0, self.size - number * self.chunk_size)])

    def _split(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        while length > 0:
            number, skip = divmod(offset, self.chunk_size)
            part = min(length, self.chunk_size - skip)
            yield number, skip, part
            offset, length = offset + part, length - part


# --- the generator ---------------------------------------------------------------------------


def regular_new(count: int, chunk_size: int) -> U64:
    """Return the COW chunks that the kernel gives to the first ``count`` exceptions."""
    index = np.arange(count, dtype=np.uint64)
    return index + np.uint64(2) + index // np.uint64(cow_format.entries_per_area(chunk_size))


def build(
    old: U64,
    *,
    chunk_size: int,
    new: U64 | None = None,
    size: int | None = None,
    leftovers: int = 0,
    data: Callable[[int], bytes] | None = None,
) -> CowImage:
    """Return the image of a persistent snapshot whose exceptions are ``old``, in this order.

    Args:
        old: Origin chunks.
        chunk_size: Bytes per chunk.
        new: COW chunks; what the kernel's allocator gives when None.
        size: Bytes of the device; the least that works when None.
        leftovers: Full areas of an older table that lie behind the one that ends this table.
        data: What to save for an origin chunk; nothing is written when None.
    """
    per_area = cow_format.entries_per_area(chunk_size)
    new = regular_new(len(old), chunk_size) if new is None else new
    least = cow_format.bytes_needed(len(old) + leftovers * per_area, chunk_size)
    image = CowImage(chunk_size, least if size is None else size, len(old))
    image.write(0, Header(chunk_size).pack())
    last = len(old) // per_area
    for area in range(last + 1):
        part = slice(area * per_area, (area + 1) * per_area)
        write_area(image, area, old[part], new[part])
    for area in range(last + 1, last + 1 + leftovers):
        # They look good: chunk numbers from 0, and data where the allocator would put it.
        first = np.uint64(area * per_area)
        index = np.arange(per_area, dtype=np.uint64)
        write_area(image, area, index, first + index + np.uint64(2 + area))
    if data is not None:
        for source, place in zip(old.tolist(), new.tolist(), strict=True):
            image.write(place * chunk_size, data(source))
    return image


def write_area(image: CowImage, area: int, old: U64, new: U64) -> None:
    """Write one exception area, zeros behind its entries."""
    offset = cow_format.area_chunk(area, image.chunk_size) * image.chunk_size
    image.write(offset, cow_format.pack_area(old, new, image.chunk_size))


def origin_chunks_of(count: int, spread: int, order: str, seed: int) -> tuple[U64, int]:
    """Return ``count`` different origin chunks, and how many chunks the origin has.

    ``spread`` is how many chunks the origin has more than are changed; ``order`` is
    ``ascending``, ``descending`` or ``random``.
    """
    origin_chunks = count + spread
    rng = np.random.default_rng(seed)
    offsets = np.sort(rng.integers(0, spread, count, endpoint=True, dtype=np.uint64))
    old = np.arange(count, dtype=np.uint64) + offsets
    if order == "random":
        rng.shuffle(old)
    return (old[::-1].copy() if order == "descending" else old), origin_chunks


# --- what hypothesis draws -------------------------------------------------------------------

chunk_sizes = st.sampled_from(CHUNK_SIZES)
_spreads = st.one_of(st.integers(0, 3), st.integers(0, 1 << 13), st.integers(0, 1 << 43))


@st.composite
def entry_counts(draw: st.DrawFn, chunk_size: int) -> int:
    """Draw k areas' worth of entries and a few more or less; at most some 40,000."""
    per_area = cow_format.entries_per_area(chunk_size)
    areas = draw(st.integers(0, min(9, 40_000 // per_area)))
    return max(0, areas * per_area + draw(st.one_of(st.integers(-2, 2), st.integers(0, 40))))


@dataclass(frozen=True)
class Snapshot:
    """A drawn image and the truth about it."""

    image: CowImage
    old: U64
    origin_size: int

    def __repr__(self) -> str:
        return f"Snapshot({self.image.chunk_size}, {len(self.old)} entries, {self.origin_size})"


@st.composite
def snapshots(draw: st.DrawFn, chunk_size: int | None = None) -> Snapshot:
    """Draw a snapshot as the kernel would have left it."""
    chunk_size = draw(chunk_sizes) if chunk_size is None else chunk_size
    count = draw(entry_counts(chunk_size))
    order = draw(st.sampled_from(["ascending", "descending", "random"]))
    old, chunks = origin_chunks_of(count, draw(_spreads), order, draw(st.integers(0, 1 << 16)))
    leftovers = draw(st.integers(0, 2))
    least = cow_format.bytes_needed(
        count + leftovers * cow_format.entries_per_area(chunk_size), chunk_size
    )
    room = draw(st.one_of(st.just(0), st.integers(0, chunk_size), st.just(1 << 40)))
    image = build(old, chunk_size=chunk_size, size=least + room, leftovers=leftovers)
    # The origin's last chunk may be partial.
    origin_size = max(1, chunks * chunk_size - draw(st.integers(0, chunk_size - 1)))
    return Snapshot(image, old, origin_size)


# --- the damager -----------------------------------------------------------------------------


def set_header(image: CowImage, word: int, value: int) -> None:
    """Overwrite header word 0 (magic), 1 (valid), 2 (version) or 3 (chunk size in sectors)."""
    image.write(word * 4, value.to_bytes(4, "little"))


def set_entry(
    image: CowImage, index: int, *, old: int | None = None, new: int | None = None
) -> None:
    """Overwrite one or both numbers of entry ``index``, be it behind the end mark."""
    offset = cow_format.entry_offset(index, image.chunk_size)
    if old is not None:
        image.write(offset, old.to_bytes(8, "little"))
    if new is not None:
        image.write(offset + 8, new.to_bytes(8, "little"))


def flip_bit(image: CowImage, offset: int, bit: int) -> None:
    """Flip one bit."""
    if offset < image.size:
        image.write(offset, bytes([image.read(offset, 1)[0] ^ 1 << bit]))


def truncate(image: CowImage, size: int) -> None:
    """Cut the device."""
    image.size = min(image.size, size)


def repeat_entry(image: CowImage, source: int, target: int) -> None:
    """Copy one entry over another, both its numbers."""
    offset = cow_format.entry_offset(source, image.chunk_size)
    if offset + 16 <= image.size:
        image.write(cow_format.entry_offset(target, image.chunk_size), image.read(offset, 16))


def loop_areas(image: CowImage, areas: int) -> None:
    """Make the table go round: copies of area 0 in the next ``areas`` areas, and the room."""
    room = cow_format.area_chunk(areas + 1, image.chunk_size) * image.chunk_size
    image.size = max(image.size, room)
    first = bytes(image.chunks.get(1, bytearray(image.chunk_size)))
    for area in range(1, areas + 1):
        image.write(cow_format.area_chunk(area, image.chunk_size) * image.chunk_size, first)


@st.composite
def damages(draw: st.DrawFn, image: CowImage) -> tuple[str, Damage]:
    """Draw one damage for ``image``: its name and what does it."""
    near = st.integers(0, image.entries + 3)
    word64 = st.one_of(near, st.integers(0, U64_MAX))
    word32 = st.one_of(st.integers(0, 9), st.integers(0, 31).map(lambda n: 1 << n))
    metadata = st.sampled_from(sorted(image.chunks))
    a, b, bit = draw(near), draw(near), draw(st.integers(0, 7))
    long, short, word = draw(word64), draw(word32), draw(st.integers(0, 3))
    spot = draw(metadata) * image.chunk_size + draw(st.integers(0, 64))
    cut = draw(st.one_of(st.integers(0, 5000), st.integers(0, image.size)))
    kinds: list[tuple[str, Damage]] = [
        (f"old {a} = {long}", lambda i: set_entry(i, a, old=long)),
        (f"new {a} = {long}", lambda i: set_entry(i, a, new=long)),
        (f"entry {a} to {b}", lambda i: repeat_entry(i, a, b)),
        (f"header {word} = {short}", lambda i: set_header(i, word, short)),
        (f"flip {spot}.{bit}", lambda i: flip_bit(i, spot, bit)),
        (f"cut at {cut}", lambda i: truncate(i, cut)),
        ("loop", lambda i: loop_areas(i, 4)),
    ]
    return kinds[draw(st.integers(0, len(kinds) - 1))]
