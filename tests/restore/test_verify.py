"""Reading back: the sum and the places against plain bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.restore.content_sum import ContentSum
from blocksnapd.restore.verify import DIFFERENCES_MAX, STEP_SIZE, differences, read_sum
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 4096


def expected_sum(image: MemoryImage) -> int:
    total = ContentSum(image.block_size)
    for blocks, data in image.pieces():
        total.add(blocks, data)
    return total.value()


def no_advance(_: int) -> None:
    pass


def content(size: int, marks: list[int]) -> bytes:
    image = bytearray(size)
    for at in marks:
        image[at % size] = 1 + at % 255
    return bytes(image)


sizes = st.builds(
    lambda steps, by: max(1, steps * STEP_SIZE + by),
    st.integers(0, 2),
    st.sampled_from([-BLOCK - 1, -BLOCK, -1, 0, 1, 511, BLOCK, BLOCK + 1, 3 * BLOCK]),
)


@given(
    sizes, st.lists(st.integers(0, 1 << 30), max_size=8), st.integers(0, 9), st.integers(1, 5000)
)
@settings(deadline=None, max_examples=50)
def test_reading_data_ranges_of_any_alignment_sums_up_the_image(
    size: int, marks: list[int], seed: int, granularity: int
) -> None:
    """Ranges are what a file system with blocks of ``granularity`` bytes would report as data."""
    image = MemoryImage(content(size, marks), BLOCK, seed)
    touched = sorted({at % size // granularity for at in marks})
    ranges = [(g * granularity, min((g + 1) * granularity, size)) for g in touched]
    assert read_sum(image, ranges, BLOCK, no_advance) == expected_sum(image)


@given(sizes, st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=30)
def test_one_byte_that_differs_changes_the_sum_and_is_found(size: int, at: int) -> None:
    image = MemoryImage(bytes(size))
    other = MemoryImage(content(size, [at]))
    assert read_sum(other, [(0, size)], BLOCK, no_advance) != expected_sum(image)
    assert differences(image, other) == [(at % size, at % size + 1)]


def test_places_are_few() -> None:
    size = STEP_SIZE * (DIFFERENCES_MAX + 2)
    found = differences(MemoryImage(bytes(size)), MemoryImage(b"\1" * size))
    assert len(found) == DIFFERENCES_MAX
    assert found[1] == (STEP_SIZE, 2 * STEP_SIZE)
    assert differences(MemoryImage(b"\1" * 5), MemoryImage(b"\1" * 5)) == []


def test_progress_counts_every_byte_and_can_stop_the_reading() -> None:
    size = 3 * STEP_SIZE + 5
    counted: list[int] = []
    read_sum(MemoryImage(bytes(size)), [(0, size)], BLOCK, counted.append)
    assert sum(counted) == size

    class StopError(Exception):
        pass

    def stop_at_second() -> Callable[[int], None]:
        calls = iter([None, StopError()])

        def advance(_: int) -> None:
            error = next(calls)
            if error:
                raise error

        return advance

    with pytest.raises(StopError):
        read_sum(MemoryImage(bytes(size)), [(0, size)], BLOCK, stop_at_second())


def test_a_reader_that_fails_fails_the_reading() -> None:
    class Failing(MemoryImage):
        def read_into(self, offset: int, view: memoryview) -> None:
            if offset:
                raise OSError(5, "broken")
            super().read_into(offset, view)

    with pytest.raises(OSError, match="broken"):
        read_sum(Failing(bytes(2 * STEP_SIZE)), [(0, 2 * STEP_SIZE)], BLOCK, no_advance)


def test_blocks_of_every_size_of_the_format() -> None:
    for block_size in (4096 << n for n in range(5)):
        image = MemoryImage(content(200_001, [3, 70_000, 200_000]), block_size)
        ranges = [(0, image.size)]
        assert read_sum(image, ranges, block_size, no_advance) == expected_sum(image)
        assert np.any([b > 0 for b in image.blocks()])
