"""Lists of what is owed, against sets of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle import owed
from blocksnapd.errors import StateError
from blocksnapd.model import Extents

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12)


def extents(pairs: list[tuple[int, int]]) -> Extents:
    """Return what the pairs of start and length cover, as extents have to be."""
    numbers = sorted(covered_by(pairs))
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    array = np.array(runs, dtype=np.uint64).reshape(-1, 2)
    return Extents(array[:, 0], array[:, 1])


def covered_by(pairs: list[tuple[int, int]]) -> set[int]:
    return {n for start, length in pairs for n in range(start, start + length)}


def covered(found: Extents) -> set[int]:
    pairs = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
    return {n for start, end in pairs for n in range(start, end)}


def check_form(found: Extents) -> None:
    assert (found.starts < found.ends).all()
    assert (found.starts[1:] > found.ends[:-1]).all()


@given(PAIRS, PAIRS)
def test_a_union_covers_both_and_no_more(one: list[tuple[int, int]], other) -> None:
    found = owed.union(extents(one), extents(other))
    check_form(found)
    assert covered(found) == covered_by(one) | covered_by(other)


@given(PAIRS, PAIRS, st.integers(1, 5))
def test_a_long_list_gets_coarser_never_shorter(one: list[tuple[int, int]], other, most) -> None:
    exact = owed.union(extents(one), extents(other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owed, "EXTENTS_MAX", most)
        found = owed.union(extents(one), extents(other))
    check_form(found)
    assert len(found) <= most
    assert covered(found) >= covered(exact)


@given(PAIRS)
def test_what_is_packed_comes_back(pairs: list[tuple[int, int]]) -> None:
    found = owed.unpack(owed.pack(extents(pairs)))
    assert covered(found) == covered_by(pairs)


@given(PAIRS, st.integers(0, 1 << 20), st.integers(1, 255))
def test_no_other_bytes_are_taken_for_a_list(pairs: list[tuple[int, int]], at, change) -> None:
    data = bytearray(owed.pack(extents(pairs)))
    data[at % len(data)] ^= change
    for damaged in (bytes(data), bytes(data)[: at % len(data)]):
        with pytest.raises(StateError):
            owed.unpack(damaged)
