"""One list of packs for many spans: by name, each once, boxes of names read when needed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.layer_format import PACKS_PER_BOX, LayerHead
from blocksnapd.store.names import layer_name
from blocksnapd.store.pack_places import PackPlaces
from blocksnapd.store.runs import Runs
from tests.store.layer_objects import VOLUME, Layers, pack_ref
from tests.store.test_runs import build

HERE = layer_name(VOLUME, 0, 4, "00000000")
THERE = layer_name(VOLUME, 4, 8, "00000000")


def located(*places: tuple[int, int]) -> Runs:
    """Return a run of two blocks for each (pack, slot)."""
    return build([(1, 2, pack << 32 | slot) for pack, slot in places])


@pytest.fixture
def layers() -> Layers:
    return Layers()


def opened(layers: Layers, name: str, runs: Runs, packs: int):
    seqs = (0, 4) if name == HERE else (4, 8)
    digests = ("", "a" * 64) if name == HERE else ("a" * 64, "b" * 64)
    head = LayerHead(*seqs, *digests, 1 << 40, 4096, 0)
    return layers.open(layers.put([runs], packs=packs, head=head, name=name))


def test_the_same_pack_has_one_number(layers):
    places = PackPlaces()
    one = opened(layers, HERE, located((0, 5), (1, 0)), 2)
    other = opened(layers, THERE, located((2, 7), (1, 3)), 3)
    first = places.renumber(one, one.runs(0, 100))
    second = places.renumber(other, other.runs(0, 100))
    names = [place.ref.name for place in places.places]
    assert sorted(names) == [pack_ref(n).name for n in range(3)]
    assert [names[at >> 32] for at in first.locations.tolist()] == [
        pack_ref(0).name, pack_ref(1).name,
    ]  # fmt: skip
    assert [names[at >> 32] for at in second.locations.tolist()] == [
        pack_ref(2).name, pack_ref(1).name,
    ]  # fmt: skip
    assert (second.locations & np.uint64(0xFFFFFFFF)).tolist() == [7, 3]


def test_only_the_boxes_that_are_needed_are_read(layers, monkeypatch):
    count = 3 * PACKS_PER_BOX
    span = opened(layers, HERE, located((count - 1, 0), (count - 2, 9)), count)
    runs, places = span.runs(0, 100), PackPlaces()
    asked = []
    get_range = layers.store.get_range
    monkeypatch.setattr(
        layers.store, "get_range", lambda *args: asked.append(args) or get_range(*args)
    )
    places.renumber(span, runs)
    places.renumber(span, runs)
    assert len(asked) == 1
    assert len(places.places) == PACKS_PER_BOX


def test_zeros_need_no_packs(layers):
    span = opened(layers, HERE, build([(3, 9, None)]), 0)
    runs = span.runs(0, 100)
    assert PackPlaces().renumber(span, runs) is runs


def test_a_run_past_the_end_of_its_pack_is_refused(layers):
    last = (1 << 20) - 1
    span = opened(layers, HERE, located((0, last)), 1)
    with pytest.raises(RepositoryFormatError, match="outside its packs"):
        PackPlaces().renumber(span, span.runs(0, 100))
    fits = opened(layers, HERE, located((0, last - 1)), 1)
    assert len(PackPlaces().renumber(fits, fits.runs(0, 100))) == 1


def test_threads_may_ask_at_once(layers):
    count = 4 * PACKS_PER_BOX
    rng = np.random.default_rng(4)
    numbers = rng.permutation(count)[:200].tolist()
    span = opened(layers, HERE, located(*((n, 1) for n in numbers)), count)
    runs, places, wrong = span.runs(0, 1 << 30), PackPlaces(), []

    def ask(at: int) -> None:
        for n in range(at, 200, 4):
            one = Runs(runs.starts[n : n + 1], runs.lengths[n : n + 1], runs.locations[n : n + 1])
            found = int(places.renumber(span, one).locations[0]) >> 32
            if places.places[found].ref != pack_ref(numbers[n]):
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len({place.ref.name for place in places.places}) == len(places.places) == count
