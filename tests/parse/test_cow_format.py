"""The bytes of a COW device: round trips, worked numbers, and what is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import CowFormatError, CowInvalidError, CowTransientError
from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_format import Header
from tests.fakes.cow_images import CHUNK_SIZES, U64_MAX, chunk_sizes, entry_counts, regular_new


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
@pytest.mark.parametrize("valid", [True, False])
def test_header_round_trip(chunk_size: int, valid: bool) -> None:
    header = Header(chunk_size, valid)
    assert Header.unpack(header.pack()) == header
    assert Header.unpack(memoryview(header.pack().ljust(512, b"\xff"))) == header


def test_header_bytes_are_the_kernels() -> None:
    """Written out by hand from struct disk_header, for chunks of 64 KiB = 128 sectors."""
    assert Header(65536).pack() == b"SnAp" + b"\1\0\0\0" + b"\1\0\0\0" + b"\x80\0\0\0"


@given(st.binary(max_size=40))
def test_header_of_any_bytes_is_a_value_or_a_documented_error(data: bytes) -> None:
    try:
        header = Header.unpack(data)
    except CowFormatError:
        return
    assert data.startswith(header.pack())


@given(st.tuples(*[st.one_of(st.integers(0, 2), st.integers(0, (1 << 32) - 1))] * 3))
def test_header_behind_the_magic_is_exact(words: tuple[int, int, int]) -> None:
    """What is accepted packs to the same bytes; what is not is a CowFormatError with the number."""
    data = struct.pack("<4I", cow_format.MAGIC, *words)
    try:
        packed, said = Header.unpack(data).pack(), ""
    except CowFormatError as error:
        packed, said = b"", error.message
    assert packed == data or any(str(word) in said for word in words)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ((0, 0, 0, 0), CowTransientError, "0x00000000, wanted 0x70416e53"),
        ((0x70416E54, 1, 1, 8), CowTransientError, "offset 0"),
        ((cow_format.MAGIC, 1, 0, 8), CowFormatError, "version 0, wanted 1"),
        ((cow_format.MAGIC, 1, 2, 8), CowFormatError, "version 2, wanted 1"),
        ((cow_format.MAGIC, 2, 1, 8), CowFormatError, "validity 2"),
        ((cow_format.MAGIC, 1, 1, 0), CowFormatError, "0 sectors"),
        ((cow_format.MAGIC, 1, 1, 4), CowFormatError, "4 sectors"),
        ((cow_format.MAGIC, 1, 1, 9), CowFormatError, "9 sectors"),
        ((cow_format.MAGIC, 1, 1, 24), CowFormatError, "24 sectors"),
        ((cow_format.MAGIC, 1, 1, 2048), CowFormatError, "from 8 to 1024"),
    ],
)
def test_header_refusals(words: tuple[int, ...], error: type[CowFormatError], said: str) -> None:
    with pytest.raises(error) as caught:
        Header.unpack(struct.pack("<4I", *words))
    assert type(caught.value) is error
    assert said in caught.value.message
    assert caught.value.effect
    assert caught.value.hint


def test_short_header_is_refused() -> None:
    with pytest.raises(CowFormatError, match="after 15 bytes"):
        Header.unpack(Header(4096).pack()[:15])


def test_invalid_header_is_read_but_not_used() -> None:
    header = Header.unpack(Header(4096, valid=False).pack())
    with pytest.raises(CowInvalidError):
        header.require_valid()
    Header(4096).require_valid()


@pytest.mark.parametrize("chunk_size", [0, 2048, 4097, 12288, 1 << 20])
def test_header_of_ours_needs_a_chunk_size(chunk_size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Header(chunk_size)


def test_worked_numbers_of_4_kib() -> None:
    """Numbers seen on a live table."""
    assert cow_format.entries_per_area(4096) == 256
    assert [cow_format.area_chunk(n, 4096) for n in range(6)] == [1, 258, 515, 772, 1029, 1286]
    seen = [cow_format.data_chunk(i, 4096) for i in (0, 255, 256, 511, 512)]
    assert seen == [2, 257, 259, 514, 516]
    assert cow_format.area_stride(4096) == 1052672
    assert cow_format.entry_offset(257, 4096) == 1056768 + 16


def test_worked_numbers_of_larger_chunks() -> None:
    assert cow_format.area_chunk(1, 65536) == 4098
    assert cow_format.area_chunk(1, 512 * 1024) == 32770
    assert cow_format.entry_offset(4096, 65536) == 268566528


@given(chunk_sizes, st.integers(0, 1 << 20))
def test_arithmetic_agrees_with_itself(chunk_size: int, index: int) -> None:
    """Data never lies in an area, and the areas that a device holds are the ones that fit."""
    per_area = cow_format.entries_per_area(chunk_size)
    area = index // per_area
    data = cow_format.data_chunk(index, chunk_size)
    assert cow_format.area_chunk(area, chunk_size) < data
    assert data < cow_format.area_chunk(area + 1, chunk_size)
    needed = cow_format.bytes_needed(index, chunk_size)
    assert cow_format.areas_within(needed, chunk_size) == area + 1
    if index % per_area == 0:
        assert cow_format.areas_within(needed - 1, chunk_size) == area


@pytest.mark.parametrize("cow_size", [0, 1, 4096, 8191])
def test_a_device_too_small_has_no_area(cow_size: int) -> None:
    assert cow_format.areas_within(cow_size, 4096) == 0


def test_largest_useful_device() -> None:
    """A partial last chunk counts; an exactly full last area needs the empty one behind it."""
    assert cow_format.chunk_count(1, 4096) == 1
    assert cow_format.chunk_count(8193, 4096) == 3
    assert cow_format.cow_size_max(256 * 4096, 4096) == (1 + 1 + 256 + 1) * 4096
    assert cow_format.cow_size_max(255 * 4096, 4096) == (1 + 1 + 255) * 4096
    assert cow_format.cow_size_max(255 * 4096 + 1, 4096) == (1 + 1 + 256 + 1) * 4096


@st.composite
def areas(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    chunk_size = draw(st.sampled_from([4096, 8192]))
    pairs = st.tuples(st.integers(0, U64_MAX), st.integers(1, U64_MAX))
    full = cow_format.entries_per_area(chunk_size)
    count = draw(st.sampled_from([0, 1, 2, full - 1, full]))
    some = draw(st.lists(pairs, min_size=min(1, count), max_size=5))
    return chunk_size, [some[n % len(some)] for n in range(count)]


@given(areas())
def test_area_round_trip(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    chunk_size, pairs = drawn
    old = np.array([pair[0] for pair in pairs], dtype=np.uint64)
    new = np.array([pair[1] for pair in pairs], dtype=np.uint64)
    data = cow_format.pack_area(old, new, chunk_size)
    assert data == b"".join(struct.pack("<2Q", *pair) for pair in pairs).ljust(chunk_size, b"\0")
    old_slots, new_slots = cow_format.unpack_areas(data)
    end = cow_format.end_mark(new_slots)
    assert len(new_slots) == chunk_size // 16
    assert end == len(pairs)
    assert old_slots[:end].tolist() == old.tolist()
    assert new_slots[:end].tolist() == new.tolist()


def test_pack_area_refuses_what_would_read_back_differently() -> None:
    ones = np.ones(257, dtype=np.uint64)
    with pytest.raises(ValueError, match="257"):
        cow_format.pack_area(ones, ones, 4096)
    with pytest.raises(ValueError, match="fit"):
        cow_format.pack_area(ones[:1], ones[:2], 4096)
    with pytest.raises(ValueError, match="end mark"):
        cow_format.pack_area(ones[:2], np.array([1, 0], dtype=np.uint64), 4096)


def test_end_mark_of_nothing() -> None:
    assert cow_format.end_mark(np.empty(0, dtype=np.uint64)) == 0


@given(chunk_sizes.flatmap(lambda size: st.tuples(st.just(size), entry_counts(size))))
def test_generator_and_format_place_data_alike(drawn: tuple[int, int]) -> None:
    """The images that other tests rest on lie where ``data_chunk`` says."""
    chunk_size, count = drawn
    new = regular_new(count, chunk_size).tolist()
    for index in {0, count // 2, count - 1} & set(range(count)):
        assert new[index] == cow_format.data_chunk(index, chunk_size)
