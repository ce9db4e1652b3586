"""Live slots: those that images of listed points show, no more and no less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import CancelledRunError, NotFoundError
from blocksnapd.maintain.mark import LiveSlots, mark, mark_patched
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.manifest_format import Patch
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, expand
from blocksnapd.store.stack import Stack
from tests.maintain.collect_lab import CollectLab


def place(name: str, slots: int) -> PackPlace:
    ref = PackRef(name, 9999, "ab" * 32, 300, "cd" * 32, slots)
    return PackPlace(ref, "v", 4096, name, 0)


def shown(lab: CollectLab) -> dict[str, set[int]]:
    """Return the slots that the images of all listed points show, by pack."""
    found: dict[str, set[int]] = {}
    spans = lab.spans()
    for point, _ in lab.kept:
        stack = Stack(spans, 0, point.seq)
        _, locations = expand(stack.content(0, 1 << 40))
        names = [stack.places[p].ref.name for p in (locations >> SLOT_BITS).tolist()]
        for name, slot in zip(names, (locations & SLOT_MASK).tolist(), strict=True):
            found.setdefault(name, set()).add(slot)
    return found


def marked(lab: CollectLab) -> dict[str, set[int]]:
    loaded, points = lab.look()
    found = mark(lab.store, lab.key, loaded, points)
    assert found.problems == ()
    by_name = {name: np.flatnonzero(found.live.slots(name)) for name in found.live.places}
    assert all(len(slots) == found.live.count(name) for name, slots in by_name.items())
    return {name: set(slots.tolist()) for name, slots in by_name.items() if len(slots)}


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 69), st.integers(1, 70)), max_size=30),
)
def test_bits_are_a_set(sizes, runs):
    live, wanted = LiveSlots(), [set[int]() for _ in sizes]
    firsts = [live.learn(place(f"p{at}", size)) for at, size in enumerate(sizes)]
    starts, lengths = [], []
    for pack, first, length in runs:
        pack %= len(sizes)
        first %= sizes[pack]
        length = min(length, sizes[pack] - first)
        wanted[pack] |= set(range(first, first + length))
        starts.append(firsts[pack] + first)
        lengths.append(length)
    live.add(np.array(starts, dtype=np.uint64), np.array(lengths, dtype=np.uint64))
    for at, size in enumerate(sizes):
        assert len(live.slots(f"p{at}")) == size
        assert set(np.flatnonzero(live.slots(f"p{at}")).tolist()) == wanted[at]
        assert live.count(f"p{at}") == len(wanted[at])


def test_a_pack_is_learned_once_and_bits_grow(monkeypatch):
    monkeypatch.setattr("blocksnapd.maintain.mark._CHUNK_BLOCKS", 10)
    live = LiveSlots()
    first = live.learn(place("a", 100_000))
    live.add(np.array([5], dtype=np.uint64), np.array([3], dtype=np.uint64))
    assert live.learn(place("b", 100_000)) > first
    assert live.learn(place("a", 100_000)) == first
    starts = np.arange(20, 80, dtype=np.uint64)
    live.add(starts, np.full(60, 4, dtype=np.uint64))
    assert live.count("a") == 3 + 63
    assert live.count("b") == live.count("nobody") == 0


@pytest.mark.parametrize("seed", range(4))
def test_what_listed_points_show_is_marked(seed):
    lab, rng = CollectLab(blocks=60), np.random.default_rng(seed)
    lab.write(range(50))
    lab.commit()
    for at in range(14):
        lab.live(rng, full=at == 9)
    assert marked(lab) == shown(lab)
    lab.maintain()
    assert marked(lab) == shown(lab)
    lab.forget({1, 3, 4, 5, 8, 11})
    assert marked(lab) == shown(lab)


def test_nothing_but_one_gap_is_left_of_what_was_pruned():
    lab = CollectLab(blocks=60)
    lab.write(range(50))
    lab.commit()
    for _ in range(3):
        lab.commit(lab.write([1]))
    before = marked(lab)
    lab.forget({1, 2, 3})
    after = marked(lab)
    assert sum(map(len, before.values())) == 53
    assert sum(map(len, after.values())) == 50


def test_what_is_read_instead_of_damaged_slots_lives():
    live = LiveSlots()
    origin, other = place("a", 40), place("b", 40)
    first = live.learn(origin)
    live.add(np.array([first + 10], dtype=np.uint64), np.array([4], dtype=np.uint64))
    mark_patched(live, [Patch("a", 8, 4, other.ref, 20), Patch("gone", 0, 4, other.ref, 0)])
    assert np.flatnonzero(live.slots("b")).tolist() == [22, 23]
    assert live.places["b"].holder == "b"
    mark_patched(live, [Patch("a", 0, 4, place("c", 9).ref, 0)])
    assert live.count("c") == 0


def test_a_gap_that_nothing_tells_ends_it():
    lab = CollectLab(blocks=60)
    lab.write(range(50))
    lab.commit()
    lab.commit(lab.write([1]))
    lab.commit(lab.write([1]))
    loaded, points = lab.look()
    lab.store.delete(points[1].point_id and lab.point_names()[1])
    with pytest.raises(NotFoundError):
        mark(lab.store, lab.key, loaded, points)


def test_it_stops_when_asked():
    lab = CollectLab(blocks=60)
    lab.write(range(50))
    lab.commit()
    loaded, points = lab.look()
    with pytest.raises(CancelledRunError):
        mark(lab.store, lab.key, loaded, points, cancelled=lambda: True)


def test_what_tells_it_is_needed():
    lab = CollectLab(blocks=60)
    lab.write(range(50))
    lab.commit()
    for _ in range(3):
        lab.commit(lab.write([1]))
    lab.forget({2, 3})
    loaded, points = lab.look()
    needed = mark(lab.store, lab.key, loaded, points).needed
    names = lab.point_names()
    assert names[0] in needed
    assert not needed & set(names[1:3])
    assert {n for n in needed if n.endswith(".ly")} == {
        ref.name for ref in loaded.manifest.layers if ref.from_seq == 1
    }
