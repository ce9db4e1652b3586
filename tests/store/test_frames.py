"""Frames: sealed and opened; raw where zstd does not help; bound to their place."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError, RepositoryFormatError
from blocksnapd.packing import FRAME_SIZES
from blocksnapd.store import frames
from blocksnapd.store.compression import compress
from blocksnapd.store.frames import FrameCodec, frame_sum, frame_sum_key
from blocksnapd.store.seal import Scope

SCOPE = Scope("0" * 32, "v", "v/v/d/1/x.pk")
KEY = bytes(range(32))
CODEC = FrameCodec(SCOPE, KEY)
SIZE = 65536


@given(
    st.integers(1, 300), st.booleans(), st.integers(0, 10**6), st.sampled_from(FRAME_SIZES),
    st.sampled_from([-5, 1, 3]),
)  # fmt: skip
def test_frames_come_back(blocks, noise, number, frame_size, level):
    block = os.urandom(4096) if noise else b"words and words ".ljust(4096, b".")
    data = block * blocks if not noise else os.urandom(4096 * blocks)
    sealed = CODEC.seal(number, memoryview(data), level, frame_size)
    assert len(sealed) == -(-len(data) // frame_size)
    found = b"".join(
        CODEC.open(number + n, memoryview(f), min(frame_size, len(data) - n * frame_size))
        for n, f in enumerate(sealed)
    )
    assert found == data


def test_noise_is_kept_raw_and_words_are_not():
    assert len(CODEC.seal(0, memoryview(os.urandom(SIZE)), 1, SIZE)[0]) == SIZE + 16
    assert len(CODEC.seal(0, memoryview(b"word" * (SIZE // 4)), 1, SIZE)[0]) < 200


@pytest.mark.parametrize(
    "other",
    [
        (FrameCodec(SCOPE, bytes(32)), 5),
        (FrameCodec(Scope("1" * 32, "v", SCOPE.name), CODEC.key), 5),
        (FrameCodec(Scope("0" * 32, "w", SCOPE.name), CODEC.key), 5),
        (FrameCodec(Scope("0" * 32, "v", SCOPE.name + "x"), CODEC.key), 5),
        (CODEC, 6),
    ],
)
def test_a_frame_opens_in_its_own_place_only(other):
    frame = memoryview(CODEC.seal(5, memoryview(bytes(8192)), 1, SIZE)[0])
    assert CODEC.open(5, frame, 8192) == bytes(8192)
    codec, number = other
    with pytest.raises(ChecksumError, match=f"frame {number}"):
        codec.open(number, frame, 8192)


def test_a_frame_of_another_size_is_refused_without_the_memory():
    frame = memoryview(CODEC.seal(0, memoryview(bytes(SIZE)), 1, SIZE)[0])
    with pytest.raises(RepositoryFormatError, match="claims 65536 bytes, not 4096"):
        CODEC.open(0, frame, 4096)


@pytest.mark.parametrize("wrong", [b"not zstd", compress(b"y" * 65536), compress(b"x" * 65535)])
def test_what_a_compressor_garbles_is_kept_raw(monkeypatch, wrong):
    monkeypatch.setattr(frames, "compress", lambda _data, _level: wrong)
    data = memoryview(b"x" * SIZE)
    frame = CODEC.seal(0, data, 1, SIZE)[0]
    assert len(frame) == SIZE + 16
    assert CODEC.open(0, memoryview(frame), SIZE) == data


def test_the_sum_of_a_sealed_frame_shows_every_changed_bit():
    frame, key = bytearray(CODEC.seal(0, memoryview(bytes(8192)), 1, SIZE)[0]), frame_sum_key(KEY)
    seen = {frame_sum(frame, key), frame_sum(frame, frame_sum_key(bytes(32)))}
    for at in range(len(frame)):
        frame[at] ^= 1
        seen.add(frame_sum(frame, key))
        frame[at] ^= 1
    assert len(seen) == len(frame) + 2
    assert {len(found) for found in seen} == {8}


@given(st.integers(1, 64), st.booleans())
def test_a_frame_opens_into_memory_that_is_there(blocks, noise):
    data = os.urandom(4096 * blocks) if noise else b"word" * (1024 * blocks)
    frame = memoryview(CODEC.seal(3, memoryview(data), 1, 4096 * blocks)[0])
    view, scratch = memoryview(bytearray(len(data))), memoryview(bytearray(len(frame)))
    CODEC.open_into(3, frame, view, scratch)
    assert view == data
    for wrong in (frame[:-1], frame[:7], frame[:0]):
        with pytest.raises(ChecksumError, match="frame 3"):
            CODEC.open_into(3, wrong, view, scratch)
    with pytest.raises(ChecksumError, match="frame 4"):
        CODEC.open_into(4, frame, view, scratch)


def test_a_frame_of_another_size_opens_into_nothing():
    frame = memoryview(CODEC.seal(0, memoryview(bytes(SIZE)), 1, SIZE)[0])
    with pytest.raises(RepositoryFormatError, match="claims 65536 bytes, not 4096"):
        CODEC.open_into(0, frame, memoryview(bytearray(4096)), memoryview(bytearray(SIZE)))
