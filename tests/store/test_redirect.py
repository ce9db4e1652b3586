"""Healed content is found at its new place, everything else where it was."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.store.layers import PackPlace
from blocksnapd.store.manifest_format import Patch
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.redirect import Redirected
from blocksnapd.store.runs import Runs, expand


def ref(name: str) -> PackRef:
    return PackRef(name, 9, "", 4, "", 1000, holder=f"{name}-holder" if name == "new-1" else "")


class FakeMap:
    """Runs in memory over packs ``pack-0`` to ``pack-2``."""

    depth = 3
    problems = ("something",)

    def __init__(self, rows: list[tuple[int, int, int, int]]) -> None:
        columns = np.array([(s, n, p << 32 | at) for s, n, p, at in rows], dtype=np.uint64)
        self.runs = Runs(*columns.reshape(-1, 3).T.copy())
        self.places = [
            PackPlace(ref(f"pack-{n}"), "v", 4096, f"pack-{n}", 0) for n in range(3)
        ]  # fmt: skip

    def windows(self):
        yield 0, 100

    def content(self, first: int, end: int) -> Runs:
        return self.runs.cut(first, end)


def seen(content, first: int = 0, end: int = 100) -> dict[int, tuple[str, int]]:
    runs = content.content(first, end)
    assert (runs.starts[1:] >= runs.ends[:-1]).all()
    blocks, locations = expand(runs)
    return {
        b: (content.places[at >> 32].ref.name, at & 0xFFFFFFFF)
        for b, at in zip(blocks.tolist(), locations.tolist(), strict=True)
    }


def redirected(under: FakeMap, patches: list[Patch]) -> Redirected:
    return Redirected(under, patches, volume_id="v", block_size=4096)


def test_a_patch_in_the_middle_of_a_run():
    under = FakeMap([(10, 8, 0, 100), (20, 3, 1, 0)])
    patches = [Patch("pack-0", 102, 3, ref("new-0"), 7), Patch("pack-0", 107, 9, ref("new-1"), 0)]
    found = redirected(under, patches)
    assert seen(found) == {
        10: ("pack-0", 100), 11: ("pack-0", 101), 12: ("new-0", 7), 13: ("new-0", 8),
        14: ("new-0", 9), 15: ("pack-0", 105), 16: ("pack-0", 106), 17: ("new-1", 0),
        20: ("pack-1", 0), 21: ("pack-1", 1), 22: ("pack-1", 2),
    }  # fmt: skip
    assert len(found.content(0, 100)) == 5
    assert seen(found, 13, 16) == {13: ("new-0", 8), 14: ("new-0", 9), 15: ("pack-0", 105)}


def test_where_targets_are():
    found = redirected(FakeMap([(0, 2, 0, 0)]), [Patch("pack-0", 0, 1, ref("new-1"), 5)])
    place = found.places[int(found.content(0, 1).locations[0]) >> 32]
    assert (place.ref.name, place.holder, place.volume_id) == ("new-1", "new-1-holder", "v")
    assert found.places[0].ref.name == "pack-0"


def test_the_rest_passes_through():
    under = FakeMap([(0, 2, 0, 0)])
    found = redirected(under, [])
    assert (found.depth, list(found.problems)) == (3, ["something"])
    assert list(found.windows()) == [(0, 100)]
    assert len(found.content(50, 60)) == 0
    assert seen(found) == seen(under)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(0, 2), st.integers(0, 30))
    ),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 6), st.integers(0, 9)),
        max_size=4,
    ),
)
def test_as_a_dictionary_says(rows, patches):
    at, runs = 0, []
    for gap, length, pack, slot in rows:
        runs.append((at + gap, length, pack, slot))
        at += gap + length
    under = FakeMap(runs)
    made, told = [], {}
    for number, (pack, slot, count, to_slot) in enumerate(patches):
        mine = [n for n in range(count) if (f"pack-{pack}", slot + n) not in told]
        if len(mine) == count:  # a manifest tells each slot once
            made.append(Patch(f"pack-{pack}", slot, count, ref(f"new-{number}"), to_slot))
            for n in mine:
                told[f"pack-{pack}", slot + n] = (f"new-{number}", to_slot + n)
    expected = {b: told.get(place, place) for b, place in seen(under, 0, 1 << 20).items()}
    assert seen(redirected(under, made), 0, 1 << 20) == expected
