"""Layers over layers, against a model of every block; sizes that shrink and grow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.store.layers import Layer, flatten, floors, renumbered
from blocksnapd.store.runs import ZERO, Runs
from tests.store.test_runs import build, model

place = st.one_of(st.none(), st.integers(0, 500), st.integers(1 << 32, (1 << 32) + 500))
entries = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), place), max_size=8)
layers = st.lists(st.tuples(entries, st.integers(0, 90)), min_size=1, max_size=9)


@given(layers)
def test_a_chain_adds_up_as_if_applied_one_by_one(chain):
    image: dict[int, int] = {}
    built = []
    for runs, blocks in chain:
        layer = Layer(build(runs).cut(0, blocks), blocks, blocks if built else 0)
        built.append(layer)
        image = {b: at for b, at in image.items() if b < blocks} | model(layer.runs)
    wanted = {b: at for b, at in image.items() if at != ZERO}
    assert model(flatten(built)) == wanted


def test_renumbering_moves_content_and_leaves_zeros():
    runs = build([(0, 2, 5), (0, 2, None), (1, 1, (1 << 32) + 3)])
    moved = renumbered(runs, np.array([4, 9], dtype=np.uint64))
    assert moved.locations.tolist() == [(4 << 32) + 5, int(ZERO), (9 << 32) + 3]


def test_a_floor_is_where_the_image_before_ended():
    """Sizes 9, 4, 7: what is said of the second is complete from 4 on, of the third too."""
    assert floors([(9, 0), (4, 4), (7, 7)], 0) == [0, 4, 4]
    assert floors([(4, 4), (7, 7)], 9) == [4, 4]


def test_ten_thousand_layers_are_opened_in_reasonable_time():
    """Five weeks without maintenance: 10,000 points of 10 blocks each."""
    rng = np.random.default_rng(9)
    chain = [Layer(Runs.empty(), 1 << 28, 0)]
    for number in range(10_000):
        blocks = np.unique(rng.integers(0, 1 << 28, 10)).astype(np.uint64)
        ones = np.ones(len(blocks), dtype=np.uint64)
        slots = np.arange(len(blocks), dtype=np.uint64) + np.uint64(number << 32)
        chain.append(Layer(Runs(blocks, ones, slots), 1 << 28, 1 << 28))
    flat = flatten(chain)
    assert flat.blocks > 99_000
    assert int(flat.locations.max()) >> 32 == 9_999
