"""Layer objects as spans: any window equals the whole, cut; only what overlaps is read."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError, FormatError, RepositoryFormatError, StoreMissingError
from blocksnapd.store import layer_reader, layer_writer
from blocksnapd.store.entry_sum import entry_sum, pack_weight
from blocksnapd.store.layer_format import PACKS_PER_BOX, PART_RUNS_MAX
from blocksnapd.store.runs import Runs
from tests.store.layer_objects import HEAD, NAME, Layers, pack_ref
from tests.store.test_runs import build, model

if TYPE_CHECKING:
    from blocksnapd.store.manifest_format import LayerRef

place = st.one_of(st.none(), st.integers(0, 500), st.integers(1 << 32, (1 << 32) + 500))
some_runs = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), place), max_size=40).map(build)


@pytest.fixture
def small(monkeypatch) -> None:
    """Let parts have three runs."""
    monkeypatch.setattr(layer_writer, "PART_RUNS_MAX", 3)
    monkeypatch.setattr(layer_reader, "_PARTS_PER_READ", 2)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_runs, st.lists(st.integers(0, 400), max_size=3), st.lists(st.integers(0, 400)))
def test_a_window_is_the_whole_cut(small, runs, cuts, windows):
    layers, edges = Layers(), sorted([0, *cuts, 1 << 40])
    ref = layers.put([runs.cut(a, b) for a, b in itertools.pairwise(edges)])
    reader = layers.open(ref)
    assert (reader.head, reader.packs, reader.name) == (HEAD, 2, NAME)
    assert model(reader.runs(0, 1 << 63)) == model(runs)
    for first, end in itertools.pairwise(windows):
        first, end = min(first, end), max(first, end) + 1
        assert model(reader.runs(first, end)) == model(runs.cut(first, end))
    weights = np.array([pack_weight(pack_ref(n).name) for n in range(2)], dtype=np.uint64)
    assert reader.total() == entry_sum(runs, weights)
    firsts, ends, counts = reader.marks()
    assert (firsts < ends).all()
    assert (ends[:-1] <= firsts[1:]).all()
    assert int(counts.sum()) == reader.entries >= len(runs)


def scattered(count: int, first: int = 0) -> Runs:
    starts = np.arange(count, dtype=np.uint64) * np.uint64(5) + np.uint64(first)
    locations = np.random.default_rng(count).integers(0, 100_000, count, dtype=np.uint64)
    return Runs(starts, np.ones(count, dtype=np.uint64), locations)


def test_a_block_takes_the_tail_and_one_part(monkeypatch):
    layers = Layers()
    ref = layers.put([scattered(10 * PART_RUNS_MAX)])
    asked = []
    get_range = layers.store.get_range
    monkeypatch.setattr(
        layers.store, "get_range", lambda *args: asked.append(args[2]) or get_range(*args)
    )
    reader = layers.open(ref)
    assert asked == [ref.tail_size]
    for block in (5 * 30_000, 5 * 30_000 + 5):
        assert len(reader.runs(block, block + 1)) == 1
    assert len(asked) == 2
    assert sum(asked) < ref.size / 5


def test_blocks_past_16_tib_and_up_to_the_last():
    last = (1 << 50) - 1  # of an image of 2**62 bytes
    runs = build([(0, 1, 3), ((1 << 32) - 2, 3, 9), ((1 << 33), 1 << 20, None)])
    far = Runs(*(np.array([v], np.uint64) for v in (last, 1, (1 << 32) | 5)))
    layers = Layers()
    reader = layers.open(layers.put([runs, far]))
    assert reader.runs((1 << 32), (1 << 32) + 1).locations.tolist() == [10]
    assert reader.runs(last, last + 1).locations.tolist() == [(1 << 32) | 5]
    assert reader.runs(last - 1, last).blocks == 0
    assert reader.runs(1 << 33, 1 << 40).blocks == 1 << 20


def test_packs_come_a_box_at_a_time():
    layers = Layers()
    reader = layers.open(layers.put([scattered(3)], packs=2 * PACKS_PER_BOX + 7))
    for pack in (0, PACKS_PER_BOX - 1, PACKS_PER_BOX, 2 * PACKS_PER_BOX + 6):
        first, places = reader.places(pack)
        assert first == pack // PACKS_PER_BOX * PACKS_PER_BOX
        assert places[pack - first].ref == pack_ref(pack)
        assert places[pack - first].holder == pack_ref(pack).name
        assert len(places) == (7 if first == 2 * PACKS_PER_BOX else PACKS_PER_BOX)


def test_an_empty_layer_says_nothing():
    layers = Layers()
    reader = layers.open(layers.put([], packs=0))
    assert len(reader.runs(0, 1 << 40)) == 0
    assert (reader.entries, reader.total(), reader.packs) == (0, 0, 0)


def read_all(layers: Layers, ref: LayerRef) -> None:
    reader = layers.open(ref)
    reader.runs(0, 1 << 40)
    reader.places(0)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_changed_byte_is_found_where_it_matters(data):
    layers = Layers()
    ref = layers.put([scattered(PART_RUNS_MAX + 50)])
    whole = layers.store.objects[NAME]
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))])
    layers.store.objects[NAME] = whole[:at] + flipped + whole[at + 1 :]
    with pytest.raises(FormatError):
        read_all(layers, ref)


def test_an_object_cut_short_exchanged_or_gone_is_refused():
    layers = Layers()
    ref = layers.put([scattered(50)])
    whole = layers.store.objects[NAME]
    layers.put([scattered(50)])
    with pytest.raises(ChecksumError, match="the tail"):
        layers.open(ref)  # the same content, written another time
    layers.store.objects[NAME] = whole[:-1]
    with pytest.raises(ChecksumError):
        layers.open(ref)
    layers.store.objects[NAME] = whole
    with pytest.raises(RepositoryFormatError, match="named as"):
        layers.open(msgspec.structs.replace(ref, from_seq=2))
    del layers.store.objects[NAME]
    with pytest.raises(StoreMissingError):
        layers.open(ref)
