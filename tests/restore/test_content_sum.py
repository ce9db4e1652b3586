"""The content sum against a dictionary of blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.restore.content_sum import ContentSum

SIZE = 64

images = st.dictionaries(st.integers(0, 200), st.integers(0, 3), max_size=30)


def total(blocks: list[tuple[int, int]], step: int = 3) -> int:
    """Return the sum of blocks (number, fill byte), handed over ``step`` at a time."""
    result = ContentSum(SIZE)
    for at in range(0, len(blocks), step):
        part = blocks[at : at + step]
        data = b"".join(bytes([fill]) * SIZE for _, fill in part)
        result.add(np.array([b for b, _ in part], np.uint64), memoryview(data))
    return result.value()


@given(images, images, st.randoms(), st.integers(1, 40))
def test_equal_sums_mean_equal_images(
    one: dict[int, int], other: dict[int, int], random: object, step: int
) -> None:
    """Neither order nor pieces nor zero blocks count; everything else does."""
    shuffled = list(other.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    present = [{b: f for b, f in image.items() if f} for image in (one, other)]
    assert (total(list(one.items())) == total(shuffled, step)) == (present[0] == present[1])


def test_a_block_twice_and_blocks_exchanged_are_seen() -> None:
    assert total([(1, 7), (1, 7)]) != total([(1, 7)])
    assert total([(1, 7), (2, 8)]) != total([(1, 8), (2, 7)])


def test_sums_of_parts_taken_apart_add_up_in_any_order() -> None:
    blocks = [(n, n % 5 + 1) for n in range(100)]
    whole = ContentSum(SIZE)
    for at in (60, 0, 90, 30):
        whole.add_sum(total(blocks[at : at + (10 if at == 90 else 30)]))
    assert whole.value() == total(blocks)


def test_nothing_is_zero() -> None:
    assert ContentSum(SIZE).value() == 0
    assert total([(5, 0)]) == 0
