"""Tables of runs: all come back; any bytes give sound runs or a documented error."""

from __future__ import annotations

import contextlib
import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store import tables
from blocksnapd.store.columns import pack_column
from blocksnapd.store.runs import ZERO, Runs, is_ascending
from blocksnapd.store.tables import (
    RunsPart,
    TableWriter,
    check_locations,
    pack_table,
    read_table,
    unpack_part,
)

gaps = st.one_of(st.integers(0, 3), st.integers(0, 2**40))
lengths = st.one_of(st.integers(1, 3), st.integers(1, 2**20))
packs = st.tuples(st.integers(0, 5), st.integers(0, 2**20))
rows = st.lists(st.tuples(gaps, lengths, packs), max_size=40)


def build(entries, located=True) -> Runs:
    starts, at = [], 0
    for gap, length, _ in entries:
        starts.append(at + gap)
        at += gap + length
    found = np.array(starts, dtype=np.uint64), np.array([e[1] for e in entries], dtype=np.uint64)
    if not located:
        return Runs.zeros(*found)
    return Runs(*found, np.array([p << 32 | s for _, _, (p, s) in entries], dtype=np.uint64))


def same(one: Runs, other: Runs) -> bool:
    return all(
        getattr(one, f).tolist() == getattr(other, f).tolist()
        for f in ("starts", "lengths", "locations")
    )


@given(rows, st.booleans(), st.integers(1, 5))
def test_a_table_comes_back_also_in_parts(entries, located, most):
    runs = build(entries, located)
    before = tables.RUNS_PER_PART_MAX
    tables.RUNS_PER_PART_MAX = most
    try:
        parts = pack_table(runs, located=located)
        assert all(part.n <= most for part in parts)
        data = msgspec.msgpack.encode(parts)
        again = msgspec.msgpack.decode(data, type=list[RunsPart])
        assert same(read_table(again, located=located), runs)
    finally:
        tables.RUNS_PER_PART_MAX = before


@given(rows, st.lists(st.integers(0, 40), max_size=6))
def test_a_writer_fed_in_pieces_gives_the_same_runs(entries, cuts):
    runs, writer = build(entries), TableWriter(located=True)
    edges = [0, *sorted(cuts), len(runs)]
    for low, high in itertools.pairwise(edges):
        writer.add(runs.take(np.arange(min(low, len(runs)), min(high, len(runs)))))
    assert same(read_table(writer.finish(), located=True), runs)


def test_scattered_blocks_cost_two_to_three_bytes_each():
    """The cycle of a 1 TB volume: 10,000 random 4 KiB blocks, stored one after another."""
    rng = np.random.default_rng(3)
    blocks = np.unique(rng.integers(0, 244_140_625, 10_000)).astype(np.uint64)
    ones = np.ones(len(blocks), dtype=np.uint64)
    runs = Runs(blocks, ones, np.arange(len(blocks), dtype=np.uint64))
    size = len(msgspec.msgpack.encode(pack_table(runs, located=True)))
    assert size / len(blocks) < 2.5


numbers = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1])
)


@given(st.data())
def test_hostile_columns_give_sound_runs_or_a_documented_error(data):
    count = data.draw(st.integers(1, 6))

    def column() -> bytes:
        values = data.draw(st.lists(numbers, min_size=count, max_size=count))
        return pack_column(np.array(values, dtype=np.uint64))

    part = RunsPart(count, data.draw(numbers), column(), column(), column())
    try:
        runs = unpack_part(part, located=True)
    except RepositoryFormatError:
        return
    assert is_ascending(runs.starts, runs.lengths)
    assert (runs.locations != ZERO).all()


@settings(max_examples=300)
@given(st.integers(-1, 70_000), st.integers(-1, 2**64), st.binary(max_size=40))
def test_any_part_gives_runs_or_a_documented_error(count, first, junk):
    part = RunsPart(count, first, b"\0", b"\0", junk)
    for located in (True, False):
        with contextlib.suppress(RepositoryFormatError):
            assert len(unpack_part(part, located=located)) == count


def test_parts_in_the_wrong_order_are_refused():
    runs = build([(0, 2, (0, 0)), (5, 2, (0, 2))])
    parts = [*pack_table(runs.take(np.array([1])), located=True),
             *pack_table(runs.take(np.array([0])), located=True)]  # fmt: skip
    with pytest.raises(RepositoryFormatError, match="do not ascend"):
        read_table(parts, located=True)


@pytest.mark.parametrize(
    ("location", "length"), [(1 << 32, 1), (8, 3), (10, 1), (2**63, 1), ((1 << 32) - 1, 2)]
)
def test_a_run_outside_its_pack_is_refused(location, length):
    run = Runs(*(np.array([n], dtype=np.uint64) for n in (0, length, location)))
    with pytest.raises(RepositoryFormatError, match="outside its packs"):
        check_locations(run, np.array([10], dtype=np.uint64))


def test_a_run_that_fills_its_pack_is_right():
    run = Runs(*(np.array([n], dtype=np.uint64) for n in (0, 10, 0)))
    check_locations(run, np.array([10], dtype=np.uint64))
