"""The walk over exception areas: right tables, damaged ones, endless ones, growing ones."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import CowFormatError, CowInvalidError, CowTransientError
from blocksnapd.parse import cow_format, exception_table
from blocksnapd.parse.exception_table import ExceptionTable, read_table
from tests.fakes import cow_images
from tests.fakes.cow_images import CHUNK_SIZES, CowImage, Snapshot, build, regular_new

C = 4096
E = C // 16


def parse(image: CowImage, origin_size: int, **limits: int) -> ExceptionTable:
    return read_table(image.read_pieces, image.size, origin_size=origin_size, **limits)


def ascending(count: int) -> cow_images.U64:
    return np.arange(count, dtype=np.uint64)


def slow_table(image: CowImage, origin_size: int) -> list[tuple[int, int]]:
    """Read the table entry by entry, with nothing but struct and the format's description.

    Raises:
        CowFormatError: of the same class as the fast one, without a message worth reading.
    """
    if image.size < 16:
        raise CowFormatError("short")
    magic, valid, version, sectors = struct.unpack("<4I", image.read(0, 16))
    if magic != 0x70416E53:
        raise CowTransientError("magic")
    if version != 1 or valid > 1 or sectors not in [8 << n for n in range(8)]:
        raise CowFormatError("header")
    if not valid:
        raise CowInvalidError("valid")
    chunk_size = sectors * 512
    per_area = chunk_size // 16
    entries: list[tuple[int, int]] = []
    area = 1
    while (area + 1) * chunk_size <= image.size:
        for old, new in struct.iter_unpack("<2Q", image.read(area * chunk_size, chunk_size)):
            if new == 0:
                return entries
            entries.append((old, new))
            in_area = new % (per_area + 1) == 1
            if old * chunk_size >= origin_size or (new + 1) * chunk_size > image.size or in_area:
                raise CowFormatError("bounds")
            if len(entries) * chunk_size >= origin_size + chunk_size:
                raise CowFormatError("endless")
        area += per_area + 1
    raise CowFormatError("no end")


def slow_outcome(image: CowImage, origin_size: int) -> list[tuple[int, int]] | type[CowFormatError]:
    try:
        entries = slow_table(image, origin_size)
    except CowFormatError as error:
        return type(error)
    unique = all(len({entry[n] for entry in entries}) == len(entries) for n in (0, 1))
    return entries if unique else CowFormatError


def outcome(image: CowImage, origin_size: int) -> list[tuple[int, int]] | type[CowFormatError]:
    try:
        table = parse(image, origin_size)
    except CowFormatError as error:
        return type(error)
    assert table.old.dtype == table.new.dtype == np.uint64
    return list(zip(table.old.tolist(), table.new.tolist(), strict=True))


# --- what the kernel writes ------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(cow_images.snapshots())
def test_reads_what_was_written(snapshot: Snapshot) -> None:
    """Any count around the area borders, any order, leftovers behind the end, any room."""
    table = parse(snapshot.image, snapshot.origin_size)
    assert table.chunk_size == snapshot.image.chunk_size
    assert len(table) == len(snapshot.old)
    assert np.array_equal(table.old, snapshot.old)
    assert np.array_equal(table.new, regular_new(len(table), table.chunk_size))
    areas = len(table) // (table.chunk_size // 16) + 1
    assert snapshot.image.pieces_read <= 1 + 2 * areas


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_every_chunk_size_at_its_first_border(chunk_size: int, extra: int) -> None:
    count = chunk_size // 16 + extra
    image = build(ascending(count), chunk_size=chunk_size, leftovers=1)
    table = parse(image, count * chunk_size)
    assert table.old.tolist() == list(range(count))


def test_many_batches_and_a_growing_column() -> None:
    """More areas than one batch holds, so that batch borders meet area borders."""
    count = 3 * 65536 + 77
    old = np.random.default_rng(3).permutation(count).astype(np.uint64)
    table = parse(build(old, chunk_size=C), count * C)
    assert np.array_equal(table.old, old)
    assert np.array_equal(table.new, regular_new(count, C))


def test_columns_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens beyond 2**26 entries, at a size that a test can afford."""
    monkeypatch.setattr(exception_table, "_CAPACITY_FIRST", 100)
    count = 65536 + 300
    old = ascending(count)[::-1].copy()
    table = parse(build(old, chunk_size=C), count * C)
    assert np.array_equal(table.old, old)
    assert np.array_equal(table.new, regular_new(count, C))


def test_a_table_is_read_only() -> None:
    table = parse(build(ascending(3), chunk_size=C), 3 * C)
    with pytest.raises(ValueError, match="read-only"):
        table.old[0] = 1


def test_other_places_for_data_are_fine() -> None:
    """The allocator's order is what was always seen, not what correctness rests on."""
    new = regular_new(600, C)
    new[10], new[500] = new[500], new[10]
    table = parse(build(ascending(600), chunk_size=C, new=new), 600 * C)
    assert np.array_equal(table.new, new)


@pytest.mark.parametrize("chunk_size", [4096, 65536])
def test_the_kernels_places_take_the_short_way(
    chunk_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a table is as right, but slower."""
    monkeypatch.delattr(exception_table._Walk, "_check_no_area")
    count = 3 * chunk_size // 16 + 5
    assert len(parse(build(ascending(count), chunk_size=chunk_size), count * chunk_size)) == count


def test_leftovers_in_the_last_area_itself_are_ignored() -> None:
    image = build(ascending(10), chunk_size=C)
    cow_images.set_entry(image, 11, old=1 << 60, new=1 << 60)
    assert len(parse(image, 10 * C)) == 10


def test_an_exactly_full_last_area_needs_the_one_behind_it() -> None:
    image = build(ascending(2 * E), chunk_size=C)
    assert len(parse(image, 2 * E * C)) == 2 * E
    cow_images.truncate(image, image.size - 1)
    with pytest.raises(CowFormatError, match=r"ends before .* 2 areas are full.* 2109440"):
        parse(image, 2 * E * C)


# --- what is refused -------------------------------------------------------------------------


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_damaged_images_end_like_the_slow_model(data: st.DataObject) -> None:
    """Up to three damages: the same table or an error of the same class, and nothing else."""
    snapshot = data.draw(cow_images.snapshots(data.draw(st.sampled_from([4096, 8192, 65536]))))
    image = snapshot.image
    for _ in range(data.draw(st.integers(1, 3))):
        _, damage = data.draw(cow_images.damages(image))
        damage(image)
    assert outcome(image, snapshot.origin_size) == slow_outcome(image, snapshot.origin_size)


@settings(deadline=None)
@given(st.binary(max_size=64), st.binary(max_size=600), st.booleans(), st.integers(0, 1 << 20))
def test_any_bytes_are_a_table_or_a_documented_error(
    head: bytes, area: bytes, real: bool, size: int
) -> None:
    image = CowImage(4096, size)
    image.write(0, cow_format.Header(4096).pack() if real else head)
    image.write(4096, area)
    assert outcome(image, 1 << 40) == slow_outcome(image, 1 << 40)


@pytest.mark.parametrize(
    ("index", "old", "new", "said"),
    [
        (300, 1000, None, "Exception 300 at offset 1057472 names origin chunk 1000, wanted below"),
        (0, 1 << 63, None, "wanted below 1000"),
        (599, None, 1006, "Exception 599 .* names COW chunk 1006, wanted below 1006"),
        (599, None, (1 << 64) - 1, "wanted below 1006"),
        (7, None, 1, "Exception 7 at offset 4208 names COW chunk 1, which holds an exception area"),
        (7, None, 258, "COW chunk 258, which holds an exception area; wanted 9"),
        (7, None, 772, "COW chunk 772, which holds an exception area"),
        (599, 7, None, "Exception 599 .* names origin chunk 7 again, wanted once; entry 7 has it"),
        (599, None, 9, "Exception 599 .* names COW chunk 9 again, wanted once; entry 7 has it"),
    ],
)  # fmt: skip
def test_refused_entries(index: int, old: int | None, new: int | None, said: str) -> None:
    """Each error names the entry, its offset, the number seen and the number wanted."""
    image = build(ascending(600), chunk_size=C, size=1006 * C)
    assert len(parse(image, 1000 * C)) == 600
    cow_images.set_entry(image, index, old=old, new=new)
    with pytest.raises(CowFormatError, match=said):
        parse(image, 1000 * C)


def test_invalid_and_transient_snapshots_are_told_apart() -> None:
    image = build(ascending(5), chunk_size=C)
    cow_images.set_header(image, 1, 0)
    with pytest.raises(CowInvalidError):
        parse(image, 5 * C)
    cow_images.set_header(image, 0, 0)
    with pytest.raises(CowTransientError):
        parse(image, 5 * C)


def test_repeats_beyond_32_bits_are_seen() -> None:
    """Origins of more than 2**32 chunks are compared in full width."""
    old = np.array([5, (1 << 32) + 5, 1 << 40], dtype=np.uint64)
    image = build(old, chunk_size=C)
    assert parse(image, 1 << 53).old.tolist() == old.tolist()
    cow_images.set_entry(image, 2, old=5 + (1 << 32))
    with pytest.raises(CowFormatError, match="chunk 4294967301 again"):
        parse(image, 1 << 53)


def test_a_repeat_across_the_border_of_two_scans_is_seen() -> None:
    """Sorted, the two would lie at 65535 and 65536: the last of one scan, the first of the next."""
    old = ascending(70_000)
    old[69_999] = 65_535
    with pytest.raises(CowFormatError, match=r"Exception 69999 .* chunk 65535 again"):
        parse(build(old, chunk_size=C), 70_000 * C)


def test_a_loop_is_refused() -> None:
    image = build(ascending(E), chunk_size=C)
    cow_images.loop_areas(image, 6)
    with pytest.raises(CowFormatError, match="goes on at offset 1056768 after 256 entries"):
        parse(image, E * C)


def test_entries_max_is_a_limit() -> None:
    image = build(ascending(600), chunk_size=C)
    assert len(parse(image, 600 * C, entries_max=600)) == 600
    with pytest.raises(CowFormatError, match="after 599 entries"):
        parse(image, 600 * C, entries_max=599)


class EndlessCow:
    """A device of an exbibyte whose table never ends; it counts what is asked of it."""

    size = 1 << 60

    def __init__(self) -> None:
        self.areas_read = 0

    def __call__(self, offset: int, length: int, count: int, stride: int) -> memoryview:
        if offset == 0:
            return memoryview(cow_format.Header(C).pack())
        first = (offset // C - 1) // (E + 1) * E
        self.areas_read += count
        index = np.arange(first, first + count * E, dtype=np.uint64)
        return memoryview(np.stack([index, index + index // E + 2], axis=1).tobytes())


def test_an_endless_table_costs_no_more_than_the_origin() -> None:
    """Neither time nor memory follow what the device claims; 24 bytes per entry hold."""
    chunks = 1_000_000
    endless = EndlessCow()
    tracemalloc.start()
    try:
        with pytest.raises(CowFormatError, match="after 1000000 entries"):
            read_table(endless, endless.size, origin_size=chunks * C)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert endless.areas_read <= chunks // E + 512
    assert peak < 24 * chunks + (8 << 20)


# --- a snapshot that grows while it is read --------------------------------------------------


class LiveCow:
    """Behaves like the kernel between any two reads: adds exceptions, area n + 1 zeroed first."""

    def __init__(self, leftovers: int, growth: list[int]) -> None:
        self.image = build(np.empty(0, np.uint64), chunk_size=C, leftovers=leftovers)
        self.growth = growth

    def __call__(self, offset: int, length: int, count: int, stride: int) -> memoryview:
        parts = []
        for index in range(count):
            self.grow(self.growth.pop() if self.growth else 0)
            parts.append(self.image.read(offset + index * stride, length))
        return memoryview(b"".join(parts))

    def grow(self, entries: int) -> None:
        for _ in range(entries):
            index = self.image.entries
            if (index + 1) % E == 0:
                nothing = np.empty(0, np.uint64)
                cow_images.write_area(self.image, (index + 1) // E, nothing, nothing)
            new = cow_format.data_chunk(index, C)
            # Origin chunks from 10000 on; the leftovers name those from 0.
            cow_images.set_entry(self.image, index, old=10_000 + index, new=new)
            self.image.entries += 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0, 1, 3, E - 1, E, E + 1]), min_size=1, max_size=20))
def test_a_growing_table_is_read_as_one_of_its_states(growth: list[int]) -> None:
    """A prefix of the final table, at least what was there at the start, no leftover."""
    live = LiveCow(leftovers=len(growth) + 2, growth=growth[1:])
    live.grow(growth[0] * 2)
    before = live.image.entries
    table = read_table(live, live.image.size, origin_size=1 << 40)
    assert before <= len(table) <= live.image.entries
    assert np.array_equal(table.old, np.arange(len(table), dtype=np.uint64) + np.uint64(10_000))
