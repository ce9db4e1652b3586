"""Layer objects: what was written comes back; every byte changed is refused, all sizes bounded."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError, FormatError, RepositoryFormatError
from blocksnapd.store import layer_format
from blocksnapd.store.columns import pack_column
from blocksnapd.store.layer_format import (
    FOOTER_SIZE,
    PART_RUNS_MAX,
    Directory,
    DirectoryRecord,
    LayerHead,
    PartRecord,
    pack_directory,
    pack_part,
    read_directory,
    read_part,
    unpack_footer,
    unpack_tail,
)
from blocksnapd.store.records import pack_record
from blocksnapd.store.runs import Runs
from blocksnapd.store.seal import Scope, digest
from blocksnapd.store.tables import RunsPart
from tests.store.layer_objects import HEAD, NAME, VOLUME, Layers
from tests.store.test_runs import build, model

place = st.one_of(st.none(), st.integers(0, 500), st.integers(1 << 32, (1 << 32) + 500))
some_runs = st.lists(
    st.tuples(st.sampled_from([0, 1, 7, 1 << 45]), st.integers(1, 9), place), min_size=1, max_size=9
).map(build)
LAYERS = Layers()
SCOPE = Scope(LAYERS.keys.source.repository_id, VOLUME, NAME)


def tail_of(windows: list[Runs], head: LayerHead = HEAD) -> tuple[bytes, int]:
    ref = LAYERS.put(windows, head=head)
    return LAYERS.store.objects[NAME][-ref.tail_size :], ref.size


def plain_directory(**changes: object) -> tuple[bytes, layer_format.Footer]:
    tail, size = tail_of([build([(5, 2, 7), (9, 1, None)])])
    footer = unpack_footer(tail, SCOPE, size)
    boxes = layer_format.Boxes.of_tail(footer, SCOPE, LAYERS.keys.metadata_private)
    plain = boxes.open_directory(tail[:-FOOTER_SIZE], tail[-FOOTER_SIZE:])
    record = msgspec.msgpack.decode(plain, type=DirectoryRecord)
    return pack_record(msgspec.structs.replace(record, **changes)), footer


@given(some_runs)
def test_a_part_comes_back(runs):
    found = read_part(pack_part(runs), len(runs), 2, "x")
    assert model(found) == model(runs)


@given(some_runs, st.binary(max_size=40), st.integers(0, 3))
def test_any_bytes_are_a_part_or_refused(runs, data, packs):
    for plain in (data, pack_part(runs) + data):
        try:
            found = read_part(plain, len(runs), packs, "x")
        except RepositoryFormatError:
            continue
        assert len(found) == len(runs)


def test_a_part_that_claims_millions_of_runs_is_refused_before_they_are_made():
    empty = RunsPart(n=65536, first=0, gaps=b"\0", lengths=b"\0")
    many = [msgspec.structs.replace(empty, first=n << 20) for n in range(4000)]
    with pytest.raises(RepositoryFormatError, match="does not have 8192 runs"):
        read_part(pack_record(PartRecord([], many)), 8192, 1, "x")


def test_content_and_zeros_of_one_block_are_refused():
    content, zeros = build([(4, 3, 9)]), build([(6, 1, None)])
    both = Runs(*(np.concatenate(pair) for pair in zip(
        (content.starts, content.lengths, content.locations),
        (zeros.starts, zeros.lengths, zeros.locations), strict=True)))  # fmt: skip
    with pytest.raises(RepositoryFormatError, match="overlap"):
        read_part(pack_part(both), 2, 1, "x")


@settings(max_examples=30)
@given(st.lists(some_runs, max_size=1), st.booleans())
def test_a_tail_comes_back(windows, from_nothing):
    head = LayerHead(0, 9, "", "cd" * 32, 1 << 62, 4096, 0) if from_nothing else HEAD
    tail, size = tail_of(windows, head)
    directory, _ = unpack_tail(tail, SCOPE, size, LAYERS.keys.metadata_private)
    assert directory.head == head
    assert (directory.parts, directory.packs) == (len(windows), 2)
    if windows:
        assert directory.firsts.tolist() == [int(windows[0].starts[0])]
        assert directory.ends.tolist() == [int(windows[0].ends[-1])]
        assert directory.counts.tolist() == [len(windows[0])]


@given(st.binary(max_size=300))
def test_any_bytes_are_no_tail(data):
    for junk in (data, data + b"BSNLAYER", bytes(FOOTER_SIZE) + data):
        with pytest.raises(FormatError):
            unpack_tail(junk, SCOPE, len(junk), LAYERS.keys.metadata_private)


@settings(max_examples=60)
@given(st.data())
def test_a_changed_tail_is_refused(data):
    tail, size = tail_of([build([(5, 2, 7), (9, 1, None)])])
    changed = bytearray(tail)
    at = data.draw(st.integers(0, len(tail) - 1))
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FormatError):
        unpack_tail(bytes(changed), SCOPE, size, LAYERS.keys.metadata_private)


def test_a_tail_of_another_name_or_repository_is_refused():
    tail, size = tail_of([build([(5, 2, 7)])])
    private = LAYERS.keys.metadata_private
    other = Scope(SCOPE.repository_id, VOLUME, NAME.replace("00000000.", "00000001."))
    with pytest.raises(ChecksumError):
        unpack_tail(tail, other, size, private)
    with pytest.raises(RepositoryFormatError, match="belongs to repository"):
        unpack_tail(tail, Scope("f" * 32, VOLUME, NAME), size, private)
    with pytest.raises(RepositoryFormatError, match="do not add up"):
        unpack_tail(tail, SCOPE, size + 1, private)


@pytest.mark.parametrize(
    "changes",
    [
        {"from_seq": 9}, {"to_seq": 3}, {"from_seq": -1}, {"size": -1}, {"size": 1 << 63},
        {"block_size": 4095}, {"floor": (1 << 50) + 1}, {"floor": -1}, {"from_seq": 0},
        {"parts": 1 << 40}, {"parts": 2}, {"parts": -1}, {"packs": -1}, {"packs": 1 << 30},
        {"packs": 5000}, {"check": -1}, {"size": 4096},
        {"counts": pack_column(np.array([PART_RUNS_MAX], np.uint64))},
        {"counts": pack_column(np.array([2**64 - 1], np.uint64))},
        {"spans": pack_column(np.array([2**64 - 1], np.uint64))},
        {"part_sizes": pack_column(np.array([2**64 - 1], np.uint64))},
        {"part_sizes": pack_column(np.array([3], np.uint64))},
        {"pack_box_sizes": pack_column(np.array([3], np.uint64))},
        {"pack_plain_sizes": pack_column(np.array([1 << 40], np.uint64))},
    ],
)  # fmt: skip
def test_a_directory_that_says_what_cannot_be_is_refused(changes):
    plain, footer = plain_directory()
    assert read_directory(plain, footer, NAME).parts == 1
    plain, footer = plain_directory(**changes)
    with pytest.raises(RepositoryFormatError):
        read_directory(plain, footer, NAME)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=12), st.data())
def test_parts_that_overlap_a_window(gaps, data):
    runs = build([(gap, length, None) for gap, length in gaps])
    column = np.ones(len(runs), dtype=np.uint64)
    offsets = np.arange(len(runs) + 1, dtype=np.uint64)
    none = np.zeros(0, np.uint64)
    directory = Directory(
        HEAD, 0, runs.starts, runs.ends, column, offsets, 0, np.zeros(1, np.uint64), none
    )
    first = data.draw(st.integers(0, 120))
    end = data.draw(st.integers(first + 1, 130))
    low, high = directory.overlapping(first, end)
    inside = [at for at in range(len(runs)) if runs.starts[at] < end and int(runs.ends[at]) > first]
    assert list(range(low, high)) == inside
    again = msgspec.msgpack.decode(pack_directory(directory), type=DirectoryRecord)
    assert again.parts == len(runs)


def test_the_format_is_the_one_written_down():
    tail, size = tail_of([build([(5, 2, 7)])])
    newer = bytearray(tail)
    newer[-16:-12] = (2).to_bytes(4, "little")
    with pytest.raises(RepositoryFormatError, match="format 2") as caught:
        unpack_footer(bytes(newer), SCOPE, size)
    assert "newer blocksnapd" in caught.value.hint
    assert FOOTER_SIZE == 136
    assert digest(tail) != digest(newer)
