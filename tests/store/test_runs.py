"""Runs against a model that holds every block by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.blocks import runs_of
from blocksnapd.store.runs import (
    ZERO,
    Runs,
    expand,
    interleave,
    is_ascending,
    join,
    overlay,
    overlay_all,
    split,
)

SPACE = 60


def build(entries) -> Runs:
    """Return runs from (gap, length, location or None)."""
    rows, at = [], 0
    for gap, length, location in entries:
        start = at + gap
        at = start + length
        rows.append((start, length, int(ZERO) if location is None else location))
    array = np.array(rows, dtype=np.uint64).reshape(-1, 3)
    return Runs(array[:, 0].copy(), array[:, 1].copy(), array[:, 2].copy())


def model(runs: Runs) -> dict[int, int]:
    """Return block -> location, ``ZERO`` for zeros."""
    found = {}
    for start, length, location in zip(
        runs.starts.tolist(), runs.lengths.tolist(), runs.locations.tolist(), strict=True
    ):
        for n in range(length):
            assert start + n not in found
            found[start + n] = location if location == ZERO else location + n
    return found


place = st.one_of(st.none(), st.integers(0, 500), st.integers(1 << 32, (1 << 32) + 500))
some_runs = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), place), max_size=10).map(build)


@given(some_runs, some_runs)
def test_overlay_is_the_newer_over_the_older(older, newer):
    over = overlay(older, newer)
    assert is_ascending(over.starts, over.lengths)
    assert model(over) == model(older) | model(newer)


@given(some_runs)
def test_overlaying_the_same_again_does_not_grow(runs):
    once = overlay(runs, runs)
    assert len(overlay(once, once)) == len(once) <= max(len(runs), 0)


@given(some_runs, some_runs, some_runs)
def test_overlay_may_be_grouped(a, b, c):
    assert model(overlay(overlay(a, b), c)) == model(overlay(a, overlay(b, c)))


@given(some_runs, st.integers(0, SPACE), st.integers(0, SPACE))
def test_a_cut_holds_what_lies_inside(runs, first, length):
    cut = runs.cut(first, first + length)
    wanted = {b: at for b, at in model(runs).items() if first <= b < first + length}
    assert model(cut) == wanted


@given(some_runs)
def test_expanding_content_gives_every_block(runs):
    content = runs.content()
    blocks, locations = expand(content)
    wanted = {b: at for b, at in model(runs).items() if at != ZERO}
    assert dict(zip(blocks.tolist(), locations.tolist(), strict=True)) == wanted


@given(st.sets(st.integers(0, SPACE)).map(sorted))
def test_runs_of_blocks(blocks):
    starts, lengths = runs_of(np.array(blocks, dtype=np.uint64))
    assert sorted(model(Runs.zeros(starts, lengths))) == blocks
    assert (starts[1:] > (starts + lengths)[:-1]).all()


def test_runs_beyond_any_disk_do_not_wrap():
    far = np.array([2**63, 2**64 - 10], dtype=np.uint64)
    runs = Runs(far, np.array([5, 9], dtype=np.uint64), np.array([1, 50], dtype=np.uint64))
    assert is_ascending(runs.starts, runs.lengths)
    assert not is_ascending(far, np.array([5, 11], dtype=np.uint64))
    over = overlay(runs, Runs.zeros(far[:1] + np.uint64(1), np.array([1], dtype=np.uint64)))
    assert over.starts.tolist() == [2**63, 2**63 + 1, 2**63 + 2, 2**64 - 10]
    assert over.locations.tolist() == [1, int(ZERO), 3, 50]


@given(some_runs)
def test_interleaving_content_and_zeros_gives_all_back(runs):
    zeros = runs.take(runs.locations == ZERO)
    both = interleave(runs.content(), zeros)
    assert model(both) == model(runs)
    assert model(join([Runs.empty(), both])) == model(runs)


@given(st.lists(some_runs, max_size=7))
def test_of_many_layers_the_newest_counts(newest_first):
    result, hidden = overlay_all(newest_first)
    wanted: dict[int, int] = {}
    for runs in reversed(newest_first):
        wanted |= model(runs)
    assert is_ascending(result.starts, result.lengths)
    assert model(result) == wanted
    given_blocks = sum(runs.blocks for runs in newest_first)
    assert hidden.blocks == given_blocks - result.blocks


@given(some_runs, some_runs)
def test_splitting_tells_what_is_hidden(older, newer):
    kept, hidden = split(older, newer)
    covered = model(newer)
    old = model(older)
    assert model(kept) == {b: at for b, at in old.items() if b not in covered}
    assert model(hidden) == {b: at for b, at in old.items() if b in covered}


def test_nothing_is_cut_out_of_the_middle_of_a_run():
    runs = build([(0, 5, None), (2, 3, 40)])
    for at in range(12):
        assert len(runs.cut(at, at)) == 0
