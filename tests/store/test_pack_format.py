"""A pack's tail: all fields come back; any bytes give an index or a documented error."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import FormatError, RepositoryFormatError
from blocksnapd.model import HASH_SIZE
from blocksnapd.packing import FRAME_SIZES
from blocksnapd.store.frames import frame_blocks
from blocksnapd.store.keys import new_keys
from blocksnapd.store.pack_format import (
    FOOTER_SIZE,
    Footer,
    index_record,
    pack_tail,
    read_index,
    unpack_footer,
    unpack_tail,
)
from blocksnapd.store.runs import Runs, expand
from blocksnapd.store.seal import Scope, new_key
from blocksnapd.store.tables import RunsPart, read_table

KEYS = new_keys("0123456789abcdef" * 2)
SCOPE = Scope(KEYS.source.repository_id, "v", "v/v/d/20260102/x.pk")


def make(
    blocks: np.ndarray, sizes: list[int], block_size: int = 4096, frame_size: int = 65536
) -> bytes:
    identities = np.arange(len(blocks) * HASH_SIZE, dtype=np.uint8).reshape(-1, HASH_SIZE)
    zeros = Runs.zeros(np.array([7], dtype=np.uint64), np.array([3], dtype=np.uint64))
    return pack_tail(
        SCOPE,
        record=index_record(
            "p" + "0" * 16, 9, blocks, identities, sizes, zeros, bytes(range(8)) * len(sizes)
        ),
        data_key=new_key(), index_key=new_key(), data_public=KEYS.source.data_public,
        metadata_public=KEYS.source.metadata_public, data_size=sum(sizes), frames=len(sizes),
        block_size=block_size, frame_blocks=frame_blocks(block_size, frame_size),
    )  # fmt: skip


@settings(max_examples=40)
@given(st.data(), st.sampled_from([4096, 16384, 65536]), st.sampled_from(FRAME_SIZES))
def test_a_tail_comes_back(data, block_size, frame_size):
    each = frame_blocks(block_size, frame_size)
    frames = data.draw(st.integers(1, 4))
    count = (frames - 1) * each + data.draw(st.sampled_from([1, each]))
    steps = np.random.default_rng(data.draw(st.integers(0, 99))).integers(1, 2**40, count)
    blocks = np.cumsum(steps * data.draw(st.sampled_from([1, 0])) + 1).astype(np.uint64)
    largest = frame_size + 16
    sizes = data.draw(st.lists(st.integers(17, largest), min_size=frames, max_size=frames))
    tail = make(blocks, sizes, block_size, frame_size)
    index, footer = unpack_tail(tail, SCOPE, KEYS.metadata_private)
    assert (
        expand(Runs(index.blocks.starts, index.blocks.lengths, index.blocks.starts))[0].tolist()
        == blocks.tolist()
    )
    assert index.frame_sums.tobytes() == bytes(range(8)) * frames
    assert np.diff(index.offsets).tolist() == sizes
    assert index.slots == footer.blocks == count
    assert (index.point_id, index.seq) == ("p" + "0" * 16, 9)
    assert read_table(index.zeros, located=False).starts.tolist() == [7]
    raw = [index.frame_size(frame) for frame in range(frames)]
    assert sum(raw) == count * block_size
    assert raw[:-1] == [frame_size] * (frames - 1)


def test_an_index_claims_no_more_runs_than_it_has_blocks():
    """35 bytes claim 65536 runs: refused before memory is taken for them."""
    record = index_record(
        "p" + "0" * 16, 9, np.arange(2, dtype=np.uint64), np.zeros((2, HASH_SIZE), np.uint8), [50],
        Runs.empty(),
    )  # fmt: skip
    footer = Footer(b"", b"", SCOPE.repository_id, 50, 0, 2, 1, 4096, 16)
    assert read_index(msgspec.msgpack.encode(record), footer, "x").slots == 2
    record.blocks = [RunsPart(65536, at << 20, b"\0", b"\0") for at in range(30_000)]
    with pytest.raises(RepositoryFormatError, match="more runs than it has blocks"):
        read_index(msgspec.msgpack.encode(record), footer, "x")


def test_the_table_costs_little_more_than_the_identities():
    tail = make(np.arange(8192, dtype=np.uint64), [26000] * 512)
    assert len(tail) < 8192 * HASH_SIZE + 512 * 8 + 1024


@given(st.binary(max_size=300))
def test_any_bytes_are_no_tail(data):
    for junk in (data, data + b"BSNPPACK", bytes(FOOTER_SIZE) + data):
        with pytest.raises(FormatError):
            unpack_tail(junk, SCOPE, KEYS.metadata_private)


@settings(max_examples=60)
@given(st.data())
def test_a_changed_tail_is_refused(data):
    tail = bytearray(make(np.arange(20, dtype=np.uint64), [5000, 900]))
    at = data.draw(st.integers(0, len(tail) - 1))
    tail[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        # The data seal is not the tail's to check; the point's digest of the tail covers it.
        unpack_tail(bytes(tail), SCOPE, KEYS.metadata_private)


def test_a_tail_under_another_name_is_refused():
    tail = make(np.arange(20, dtype=np.uint64), [5000, 900])
    for scope in (
        Scope(SCOPE.repository_id, "w", SCOPE.name),
        Scope(SCOPE.repository_id, "v", SCOPE.name + "2"),
        Scope("f" * 32, "v", SCOPE.name),
    ):
        with pytest.raises(FormatError):
            unpack_tail(tail, scope, KEYS.metadata_private)


def footer(blocks: int = 20, data_size: int = 5900) -> Footer:
    frames = -(-blocks // 16)
    return Footer(bytes(80), bytes(80), SCOPE.repository_id, data_size, 0, blocks, frames, 4096, 16)


@settings(max_examples=200)
@given(
    st.binary(max_size=80)
    | st.fixed_dictionaries(
        {
            "point_id": st.text(max_size=3), "seq": st.integers(-1, 2**64 - 1),
            "blocks": st.just([]) | st.lists(
                st.fixed_dictionaries(
                    {"n": st.integers(0, 3), "first": st.integers(0, 2**64 - 1),
                     "gaps": st.just(b"\0"), "lengths": st.just(b"\0") | st.binary(max_size=9)}
                ), max_size=2,
            ),
            "identities": st.binary(max_size=40), "frame_sizes": st.binary(max_size=30),
            "zeros": st.just([]), "frame_sums": st.binary(max_size=9),
        }
    ).map(msgspec.msgpack.encode)
)  # fmt: skip
def test_any_index_gives_an_index_or_a_documented_error(plain):
    for blocks in (1, 2, 20):
        try:
            index = read_index(plain, footer(blocks), "x")
        except RepositoryFormatError:
            continue
        assert index.slots == blocks


@pytest.mark.parametrize("blocks", [0, (1 << 20) + 1, 2**32 - 1])
def test_a_footer_beyond_the_limits_is_refused(blocks):
    made = footer(20).pack()
    data = made[:188] + blocks.to_bytes(4, "little") + made[192:]
    with pytest.raises(RepositoryFormatError, match="claims"):
        unpack_footer(data, SCOPE)


@pytest.mark.parametrize("each", [0, 257, 2**32 - 1])
def test_a_footer_with_frames_beyond_the_limit_is_refused(each):
    made = footer(20).pack()
    data = made[:200] + each.to_bytes(4, "little") + made[204:]
    with pytest.raises(RepositoryFormatError, match=f"frames of {each} blocks"):
        unpack_footer(data, SCOPE)
