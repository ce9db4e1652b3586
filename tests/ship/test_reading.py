"""Reading ahead: every batch with its own bytes, in order, whoever is slow."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import HostError
from blocksnapd.model import Extents
from blocksnapd.ship.reading import BUFFERS, READERS, ReadBatch, one_ahead, read_ahead
from blocksnapd.ship.spans import Batch, batches
from tests.fakes.memory_volume import MemoryReader

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096
CONTENT = random.Random(8).randbytes(400 * BLOCK - 700)
PADDED = CONTENT + bytes(700)


def plan_of(blocks: set[int], per_batch: int) -> list[Batch]:
    """Return batches over these blocks, each an extent of its own or joined with its neighbour."""
    starts = np.array(sorted(blocks), dtype=np.uint64) * np.uint64(BLOCK)
    heads = np.flatnonzero(np.diff(starts, prepend=starts[:1] + np.uint64(1)) != BLOCK)
    ends = starts[np.append(heads[1:], len(starts)) - 1] + np.uint64(BLOCK)
    return list(batches(Extents(starts[heads], ends), BLOCK, per_batch))


def check(batch: ReadBatch) -> None:
    numbers = batch.batch.blocks().tolist()
    expected = b"".join(PADDED[n * BLOCK : (n + 1) * BLOCK] for n in numbers)
    assert batch.data == expected


@given(st.sets(st.integers(0, 399), min_size=1), st.integers(1, 60))
def test_every_batch_comes_in_order_with_its_bytes(blocks: set[int], per_batch: int) -> None:
    plan = plan_of(blocks, per_batch)
    seen = []
    for found in read_ahead(MemoryReader(CONTENT), plan, BLOCK):
        check(found)
        seen.append(found.batch)
    assert seen == plan


def test_scattered_blocks_are_read_by_several_threads_at_once() -> None:
    """As many reads wait for one another as there are readers, or this never ends."""
    together = threading.Barrier(READERS, timeout=20)

    class Meeting(MemoryReader):
        def read_into(self, offset: int, view: memoryview) -> None:
            together.wait()
            super().read_into(offset, view)

    plan = plan_of(set(range(0, 2 * READERS, 2)), 100)
    for found in read_ahead(Meeting(CONTENT), plan, BLOCK):
        check(found)


def test_no_more_is_read_ahead_than_there_are_buffers() -> None:
    begun: list[int] = []

    class Noting(MemoryReader):
        def read_into(self, offset: int, view: memoryview) -> None:
            begun.append(offset)
            super().read_into(offset, view)

    plan = plan_of(set(range(40)), 1)
    for taken, found in enumerate(read_ahead(Noting(CONTENT), plan, BLOCK)):
        assert len(begun) <= taken + BUFFERS
        check(found)
    assert len(begun) == 40


@pytest.mark.parametrize("bad", [0, 7, 399])
def test_a_failing_read_is_told_in_its_turn(bad: int) -> None:
    class Failing(MemoryReader):
        def read_into(self, offset: int, view: memoryview) -> None:
            if offset == bad * BLOCK:
                raise HostError(f"block {bad} is gone")
            super().read_into(offset, view)

    found = read_ahead(Failing(CONTENT), plan_of(set(range(400)), 1), BLOCK)
    for _ in range(bad):
        check(next(found))
    with pytest.raises(HostError, match=f"block {bad} is gone"):
        next(found)


def test_no_thread_outlives_a_reading_that_was_given_up() -> None:
    before = threading.active_count()
    found = read_ahead(MemoryReader(CONTENT), plan_of(set(range(400)), 3), BLOCK)
    check(next(found))
    found.close()
    assert threading.active_count() <= before


def test_one_is_read_ahead_and_no_more() -> None:
    begun: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1, 6):
            begun.append(number)
            yield number
        raise HostError("the disk is gone")

    ahead = one_ahead(numbers())
    for number in range(1, 6):
        assert next(ahead) == number
        assert len(begun) <= number + 1
    with pytest.raises(HostError, match="the disk is gone"):
        next(ahead)
    assert list(one_ahead(iter([]))) == []


def test_the_next_is_read_while_this_one_is_looked_at() -> None:
    """The second is read before the first is done with, or this never ends."""
    together = threading.Barrier(2, timeout=20)

    def meeting() -> Iterator[int]:
        yield 1
        together.wait()
        yield 2

    ahead = one_ahead(meeting())
    assert next(ahead) == 1
    together.wait()
    assert list(ahead) == [2]
