from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.blocks import (
    distinct,
    hash_blocks,
    is_zero_hash,
    neighbours,
    nonzero_mask,
    state_add,
    state_sum,
)

if TYPE_CHECKING:
    from blocksnapd.model import U8, U64

KEY = bytes(range(32))
entries = st.dictionaries(
    st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16).filter(any), max_size=20
)


def arrays(image: dict[int, bytes]) -> tuple[U64, U8]:
    blocks = np.array(list(image), dtype=np.uint64)
    return blocks, np.frombuffer(b"".join(image.values()), dtype=np.uint8).reshape(-1, 16)


def test_identities_are_keyed_blake3_of_the_bytes_alone() -> None:
    data = b"\1" * 4096 + b"\2" * 4096 + b"\1" * 4096
    hashes = hash_blocks(memoryview(data), 4096, KEY)
    assert hashes[1].tobytes() == blake3(b"\2" * 4096, key=KEY).digest(length=16)
    assert hashes[0].tobytes() == hashes[2].tobytes()
    some = hash_blocks(memoryview(data), 4096, KEY, [4096, 8192])
    assert some.tobytes() == hashes[1:].tobytes()


@given(st.lists(st.sampled_from([0, 1, 4095, None]), min_size=1, max_size=8))
def test_zero_blocks_are_found_wherever_the_one_byte_is(places: list[int | None]) -> None:
    data = bytearray(len(places) * 4096)
    for block, place in enumerate(places):
        if place is not None:
            data[block * 4096 + place] = 1
    expected = [place is not None for place in places]
    assert nonzero_mask(memoryview(data), 4096).tolist() == expected


def test_the_zero_identity() -> None:
    hashes = np.zeros((3, 16), dtype=np.uint8)
    hashes[1, 15] = 1
    assert is_zero_hash(hashes).tolist() == [True, False, True]


@given(entries, entries)
def test_the_state_sum_follows_the_image(before: dict[int, bytes], after: dict[int, bytes]) -> None:
    """Subtracting what goes and adding what comes gives the sum of what is."""
    changed = {b for b in before.keys() | after.keys() if before.get(b) != after.get(b)}
    gone = state_sum(*arrays({b: before[b] for b in changed & before.keys()}))
    come = state_sum(*arrays({b: after[b] for b in changed & after.keys()}))
    whole = state_sum(*arrays(before))
    assert state_add(whole, come, gone) == state_sum(*arrays(after))
    assert 0 <= whole < 1 << 128


@given(entries.filter(lambda e: len(e) > 1))
def test_an_exchanged_or_lost_entry_has_another_sum(image: dict[int, bytes]) -> None:
    (one, first), (other, second) = list(image.items())[:2]
    right = state_sum(*arrays(image))
    assert state_sum(*arrays({b: h for b, h in image.items() if b != one})) != right
    if first != second:
        assert state_sum(*arrays(image | {one: second, other: first})) != right


def test_zero_blocks_count_nothing() -> None:
    blocks = np.arange(3, dtype=np.uint64)
    assert state_sum(blocks, np.zeros((3, 16), dtype=np.uint8)) == 0
    assert state_sum(blocks[:0], np.zeros((0, 16), dtype=np.uint8)) == 0


@given(st.lists(st.integers(0, 12)))
def test_neighbours_cut_numbers_where_the_next_does_not_follow(numbers: list[int]) -> None:
    found = list(neighbours(np.array(numbers, dtype=np.uint64)))
    stretches = [numbers[first:last] for first, last in found]
    assert [number for part in stretches for number in part] == numbers
    for part in stretches:
        assert part == list(range(part[0], part[0] + len(part)))
    for before, after in itertools.pairwise(stretches):
        assert after[0] != before[-1] + 1


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3)))
def test_distinct_numbers_ascend(numbers: list[int]) -> None:
    assert distinct(np.array(numbers, dtype=np.uint64)).tolist() == sorted(set(numbers))


def test_distinct_numbers_load_nothing() -> None:
    code = "import sys; from blocksnapd.blocks import distinct, np; distinct(np.arange(9))"
    code += "; sys.exit('numpy.ma' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
