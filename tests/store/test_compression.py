"""Compression: exact sizes, no memory on claims, one documented error."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.compression import compress, decompress_exact, decompress_into


@given(st.binary(max_size=3000), st.sampled_from([1, 3, 9]))
def test_bytes_come_back(data, level):
    assert decompress_exact(compress(data, level), len(data)) == data


def test_threads_do_not_share_a_context():
    inputs = [bytes([n]) * 50_000 + b"end" for n in range(40)]
    with ThreadPoolExecutor(8) as workers:
        packed = list(workers.map(compress, inputs * 5))
        found = list(workers.map(decompress_exact, packed, [50_003] * 200))
    assert found == inputs * 5


@given(st.binary(max_size=100), st.integers(0, 10**12))
def test_any_bytes_decompress_or_are_refused(data, size):
    with contextlib.suppress(RepositoryFormatError):
        assert len(decompress_exact(data, size)) == size


def test_trailing_bytes_after_a_frame_are_refused():
    packed = compress(b"x" * 100)
    assert decompress_exact(packed, 100) == b"x" * 100
    for junk in (packed + b"\0", packed + packed, packed[:-1], b""):
        with pytest.raises(RepositoryFormatError):
            decompress_exact(junk, 100)


@given(st.binary(max_size=100), st.integers(0, 1000))
def test_any_bytes_fill_memory_or_are_refused(data, size):
    with contextlib.suppress(RepositoryFormatError):
        decompress_into(data, memoryview(bytearray(size)))


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 40))
def test_bytes_come_back_into_memory_unless_cut_short(data, cut):
    packed, view = compress(data), memoryview(bytearray(len(data)))
    decompress_into(packed, view)
    assert view == data
    for wrong in (packed[: len(packed) - 1 - cut], b""):
        with pytest.raises(RepositoryFormatError):
            decompress_into(wrong, view)


@given(st.data())
def test_into_memory_comes_what_comes_as_bytes_and_nothing_else(data):
    plain = data.draw(st.sampled_from([b"", b"a", b"x" * 1000, random.Random(1).randbytes(500)]))
    packed = bytearray(compress(plain, data.draw(st.sampled_from([-3, 1, 9]))))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(0, 255))
    packed = packed[: data.draw(st.integers(0, len(packed)))] + data.draw(st.binary(max_size=9))
    view = memoryview(bytearray(len(plain)))
    try:
        wanted = decompress_exact(packed, len(plain))
    except RepositoryFormatError:
        with pytest.raises(RepositoryFormatError):
            decompress_into(packed, view)
    else:
        decompress_into(packed, view)
        assert view == wanted
