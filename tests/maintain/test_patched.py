"""Patches as sets of slots: what they heal, what goes with them, how few they are."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.maintain.patched import Patched, patches_of
from blocksnapd.store.manifest_format import Patch
from blocksnapd.store.point_format import PackRef


def ref(name: str) -> PackRef:
    return PackRef(name, 900, "", 400, "", 100)


def slots(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.intp)


PATCHES = [Patch("old", 10, 4, ref("new"), 0), Patch("old", 20, 2, ref("newer"), 7)]


def test_what_is_left():
    patched = Patched(PATCHES)
    left = patched.unhealed({"old": np.arange(8, 23), "other": slots(3)})
    assert {name: found.tolist() for name, found in left.items()} == {
        "old": [8, 9, 14, 15, 16, 17, 18, 19, 22], "other": [3],
    }  # fmt: skip
    assert patched.unhealed({"old": slots(10, 13, 21)}) == {}


def test_a_target_that_is_lost_too_heals_nothing():
    left = Patched(PATCHES).unhealed({"old": slots(10, 11, 20), "new": slots(1)})
    assert {name: found.tolist() for name, found in left.items()} == {"old": [11], "new": [1]}


def test_origins():
    found = Patched(PATCHES).origins()
    assert found["old"].tolist() == [10, 11, 12, 13, 20, 21]
    assert Patched([]).origins() == {}


def test_patches_go_slot_by_slot():
    kept = Patched(PATCHES).without({"old": slots(11, 20, 21), "other": slots(1)})
    assert kept == [Patch("old", 10, 1, ref("new"), 0), Patch("old", 12, 2, ref("new"), 2)]
    assert Patched(PATCHES).without({}) == PATCHES


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 2), st.integers(0, 9)),
        unique_by=lambda row: row[0],
    )
)
def test_patches_tell_what_they_were_made_of(rows):
    rows.sort()
    places = [ref(f"pack-{pack}") for _, pack, _ in rows]
    made = patches_of("old", slots(*(r[0] for r in rows)), places, slots(*(r[2] for r in rows)))
    told = {
        patch.slot + n: (patch.to.name, patch.to_slot + n)
        for patch in made
        for n in range(patch.count)
    }
    assert told == {slot: (f"pack-{pack}", at) for slot, pack, at in rows}
    for one, two in itertools.pairwise(made):
        follows = one.to == two.to and one.slot + one.count == two.slot
        assert not (follows and one.to_slot + one.count == two.to_slot)
