"""Extents as sets of bytes: cut, joined, told in turns."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError
from blocksnapd.export import disk as module
from blocksnapd.export.disk import ImageDisk, alternating, cut, union
from blocksnapd.model import Extents
from tests.restore.memory_image import MemoryImage

SIZE = 60
some = st.sets(st.integers(0, SIZE - 1))
ranges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))


def extents_of(numbers: set[int]) -> Extents:
    flags = np.zeros(SIZE, dtype=np.int8)
    flags[list(numbers)] = 1
    edges = np.flatnonzero(np.diff(flags, prepend=0, append=0)).astype(np.uint64)
    return Extents(edges[::2], edges[1::2])


def numbers_of(extents: Extents) -> set[int]:
    pairs = list(zip(extents.starts.tolist(), extents.ends.tolist(), strict=True))
    assert all(start < end for start, end in pairs)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(pairs))
    return {n for start, end in pairs for n in range(start, end)}


@given(some, ranges)
def test_cut_is_the_part_between(numbers, found):
    start, end = found
    assert numbers_of(cut(extents_of(numbers), start, end)) == numbers & set(range(start, end))


@given(some, some)
def test_union_is_both(one, other):
    assert numbers_of(union(extents_of(one), extents_of(other))) == one | other


@given(some, st.integers(0, SIZE - 1), st.integers(1, SIZE))
def test_turns_cover_the_range_and_tell_data_from_holes(numbers, start, length):
    end = min(SIZE, start + length)
    parts = alternating(cut(extents_of(numbers), start, end), start, end)
    assert sum(count for count, _ in parts) == end - start
    assert all(a[1] != b[1] for a, b in itertools.pairwise(parts))
    at, data = start, set()
    for count, is_data in parts:
        assert count
        data |= set(range(at, at + count)) if is_data else set()
        at += count
    assert data == numbers & set(range(start, end))


def test_what_cannot_be_read_is_logged_once_and_not_without_end(caplog):
    class Image(MemoryImage):
        def read_into(self, offset: int, view: memoryview) -> None:
            raise ChecksumError(f"block {offset} is damaged")

    disk = ImageDisk(Image(b"x" * 9000))
    for offset in [7, 7, 7, *range(100)]:
        with pytest.raises(ChecksumError):
            disk.read_into(offset, memoryview(bytearray(1)))
    assert caplog.text.count("block 7 is damaged.") == 1
    assert len(caplog.records) == 20


@settings(max_examples=40)
@given(some, st.integers(0, SIZE - 1), st.integers(1, SIZE), st.integers(3, 20))
def test_the_map_of_an_image_is_looked_at_span_by_span(numbers, start, length, span):
    """Touching spans give one extent; few are remembered."""

    class Image(MemoryImage):
        asked = 0

        def data_extents(self, start: int = 0, end: int | None = None) -> Extents:
            self.asked += 1
            assert end is not None
            assert end - start <= span
            return super().data_extents(start, end)

    content = bytes(1 if n in numbers else 0 for n in range(SIZE))
    image = Image(content, block_size=1)
    with patch.multiple(module, SPAN_SIZE=span, SPANS_MAX=2):
        disk, end = ImageDisk(image), min(SIZE, start + length)
        assert numbers_of(disk.data_extents(start, end)) == numbers & set(range(start, end))
        asked = image.asked
        disk.data_extents(end - 1, end)
        assert image.asked == asked
        assert len(disk._spans) <= 2


def test_an_image_is_a_disk():
    content = bytes(8192) + b"x" * 5000
    disk = ImageDisk(MemoryImage(content))
    assert (disk.size, disk.block_size) == (13192, 4096)
    view = bytearray(10)
    disk.read_into(8190, memoryview(view))
    assert view == b"\0\0xxxxxxxx"
    found = disk.data_extents(9000, 13192)
    assert (found.starts.tolist(), found.ends.tolist()) == ([9000], [13192])
    assert not len(disk.data_extents(0, 8192))
    disk.close()
