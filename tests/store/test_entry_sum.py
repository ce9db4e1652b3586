"""Sums of map entries against adding them up one by one, and what they notice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.store.entry_sum import entry_sum, pack_weight
from blocksnapd.store.runs import ZERO, Runs, join, overlay_all
from tests.store.test_runs import build, model

WEIGHTS = np.array([pack_weight("one"), pack_weight("two")], dtype=np.uint64)
BLOCK, SLOT, NONE = 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B

place = st.one_of(st.none(), st.integers(0, 500), st.integers(1 << 32, (1 << 32) + 500))
some_runs = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), place), max_size=10).map(build)


def one_by_one(runs: Runs) -> int:
    total = 0
    for block, location in model(runs).items():
        if location == ZERO:
            total += NONE * (block + BLOCK)
        else:
            weight = int(WEIGHTS[location >> 32])
            total += weight * (block + BLOCK) * ((location & 0xFFFFFFFF) + SLOT)
    return total % (1 << 64)


@given(some_runs)
def test_a_sum_is_that_of_single_entries(runs):
    assert entry_sum(runs, WEIGHTS) == one_by_one(runs)


@given(some_runs, st.integers(0, 80))
def test_cutting_runs_changes_no_sum(runs, at):
    parts = join([runs.cut(0, at), runs.cut(at, 1 << 40)])
    assert entry_sum(parts, WEIGHTS) == entry_sum(runs, WEIGHTS)


@given(st.lists(some_runs, max_size=6))
def test_overlaying_conserves_every_entry(layers):
    result, hidden = overlay_all(layers)
    inputs = sum(entry_sum(runs, WEIGHTS) for runs in layers)
    left = inputs - entry_sum(hidden, WEIGHTS) - entry_sum(result, WEIGHTS)
    assert left % (1 << 64) == 0


def test_the_longest_runs_do_not_overflow():
    runs = build([(1 << 50, 1 << 20, (1 << 32) + 5), (7, (1 << 52) + 1, None)])
    halves = join([runs.cut(0, (1 << 50) + 333), runs.cut((1 << 50) + 333, 1 << 63)])
    assert entry_sum(halves, WEIGHTS) == entry_sum(runs, WEIGHTS)


@given(some_runs, st.data())
def test_exchanged_slots_and_moved_blocks_are_noticed(runs, data):
    content = runs.content()
    if len(content) < 2:
        return
    total = entry_sum(content, WEIGHTS)
    a, b = data.draw(st.permutations(range(len(content))))[:2]
    locations = content.locations.copy()
    locations[[a, b]] = locations[[b, a]]
    lengths = np.minimum(content.lengths, np.uint64(1))
    ones = Runs(content.starts, lengths, content.locations)
    swapped = Runs(content.starts, lengths, locations)
    same = (locations == content.locations).all()
    assert (entry_sum(swapped, WEIGHTS) == entry_sum(ones, WEIGHTS)) == same
    gone = content.take(np.arange(len(content)) != a)
    assert entry_sum(gone, WEIGHTS) != total
