"""Columns: every array comes back; any bytes give values or a documented error."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.columns import pack_column, unpack_column, unzigzag, zigzag
from blocksnapd.store.compression import compress

BORDERS = [0, 1, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**56 - 1, 2**56, 2**63, 2**64 - 1]
values = st.one_of(st.sampled_from(BORDERS), st.integers(0, 2**64 - 1), st.integers(0, 300))


def column(numbers) -> np.ndarray:
    return np.array(numbers, dtype=np.uint64)


@given(st.lists(values, max_size=300))
def test_a_column_comes_back(numbers):
    packed = pack_column(column(numbers))
    assert unpack_column(packed, len(numbers)).tolist() == numbers


@given(st.lists(st.sampled_from(BORDERS), min_size=1, max_size=50), st.integers(-3, 3))
def test_a_column_of_another_length_is_refused(numbers, more):
    packed = pack_column(column(numbers))
    count = len(numbers) + more
    if more == 0 or count < 0 or max(numbers) == 0:
        return
    with pytest.raises(RepositoryFormatError):
        unpack_column(packed, count)


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_give_values_or_a_documented_error(data, count):
    try:
        found = unpack_column(data, count)
    except RepositoryFormatError:
        return
    assert found.shape == (count,)


@given(st.lists(values, min_size=1, max_size=60), st.data())
def test_a_damaged_column_gives_values_or_a_documented_error(numbers, data):
    packed = bytearray(pack_column(column(numbers)))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(packed)))
    for damaged in (bytes(packed), bytes(packed[:cut]), bytes(packed) + b"\0"):
        with contextlib.suppress(RepositoryFormatError):
            assert len(unpack_column(damaged, len(numbers))) == len(numbers)


def test_a_column_cannot_claim_memory():
    """A frame of 30 bytes that grows to 64 MiB is refused by its claim, not after growing."""
    bomb = bytes([8]) + compress(bytes(64 << 20))
    with pytest.raises(RepositoryFormatError, match="claims"):
        unpack_column(bomb, 4)


@given(st.lists(values, max_size=50))
def test_zigzag_comes_back(numbers):
    assert unzigzag(zigzag(column(numbers))).tolist() == numbers


def test_small_differences_of_either_sign_are_small_numbers():
    differences = column([0, 2**64 - 1, 1, 2**64 - 2, 2])
    assert zigzag(differences).tolist() == [0, 1, 2, 3, 4]
