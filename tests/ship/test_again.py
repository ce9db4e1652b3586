"""Which blocks go along although they did not change, and what they are not to be mixed with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.model import NOWHERE, Extents, Wanted
from blocksnapd.ship.again import KnownWithout, still_held, with_blocks

NONE = np.zeros(16, dtype=np.uint8)


def identity(number: int) -> np.ndarray:
    return np.full(16, number, dtype=np.uint8)


def wanted(*pairs: tuple[int, int]) -> Wanted:
    """Blocks and the number of the identity each must have; 0: nobody knows."""
    return Wanted(
        np.array([block for block, _ in pairs], dtype=np.uint64),
        np.array([identity(n) for _, n in pairs], dtype=np.uint8).reshape(-1, 16),
    )


class FakeFingerprints:
    """Block n has identity n; blocks from 10 on are zero."""

    def get(self, blocks):
        return np.array([identity(b) if b < 10 else NONE for b in blocks.tolist()])


class FakeKnown:
    """Knows identity n at place n."""

    def __init__(self) -> None:
        self.noted: list = []

    def find(self, hashes):
        return hashes[:, 0].astype(np.uint64)

    def pack(self, number: int) -> bytes:
        return b"pack %d" % number

    def note(self, *told) -> None:
        self.noted.append(told)


def test_only_what_is_still_the_same_is_held():
    found = still_held(wanted((2, 2), (3, 4), (5, 5), (5, 6), (7, 0), (12, 0)), FakeFingerprints())
    assert found.tolist() == [2, 5, 7]
    assert still_held(wanted(), FakeFingerprints()).tolist() == []
    assert still_held(wanted((2, 2)), None).tolist() == []


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 30)), max_size=5),
    st.sets(st.integers(0, 14)),
    st.integers(1, 60),
)
def test_with_blocks_covers_both_and_nothing_else(pairs, blocks, size):
    end, starts, ends = 0, [], []
    for gap, length in pairs:
        start = end + gap + (1 if end else 0)
        end = start + length
        if end <= size:
            starts.append(start)
            ends.append(end)
    extents = Extents(np.array(starts, dtype=np.uint64), np.array(ends, dtype=np.uint64))
    found = with_blocks(extents, np.array(sorted(blocks), dtype=np.uint64), block_size=4, size=size)

    def covered(s: list[int], e: list[int]) -> set[int]:
        return {byte for a, b in zip(s, e, strict=True) for byte in range(a, b)}

    expected = covered(starts, ends) | {
        byte for block in blocks for byte in range(block * 4, min(block * 4 + 4, size))
    }
    s, e = found.starts.tolist(), found.ends.tolist()
    assert covered(s, e) == expected
    assert all(a < b for a, b in zip(s, e, strict=True))
    assert all(a < b for a, b in zip(e, s[1:], strict=False))


def test_nothing_refers_to_a_damaged_place():
    inner = FakeKnown()
    known = KnownWithout(inner, wanted((1, 3), (2, 5)))
    hashes = np.array([identity(n) for n in (2, 3, 4, 5)])
    assert known.find(hashes).tolist() == [2, NOWHERE, 4, NOWHERE]
    assert known.pack(7) == b"pack 7"
    known.note(hashes, hashes, hashes)
    assert len(inner.noted) == 1


def test_where_nobody_knows_what_is_damaged_nothing_is_referred_to():
    known = KnownWithout(FakeKnown(), wanted((1, 3), (2, 0)))
    assert known.find(np.array([identity(9)])).tolist() == [NOWHERE]


@pytest.mark.parametrize("size", [4096 * 3, 4096 * 2 + 5])
def test_blocks_beyond_the_image_are_left_out(size):
    whole = Extents(np.array([0], dtype=np.uint64), np.array([10], dtype=np.uint64))
    found = with_blocks(whole, np.array([2, 3, 9], dtype=np.uint64), block_size=4096, size=size)
    assert found.ends.tolist() == [10, size]
