"""The walk of damage, against a model that carries the place of every block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.maintain.damage import DamageWalk, byte_ranges
from blocksnapd.maintain.history import Change
from blocksnapd.store.layer_format import LayerHead
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.runs import ZERO, Runs

BLOCKS = 24
PLACES = [
    PackPlace(PackRef(name, 9, "", 4, "", 100), "v", 4096, name, 0) for name in ("one", "two")
]  # fmt: skip


@dataclass
class FakeSpan:
    """A layer in memory."""

    table: Runs
    blocks: int

    @property
    def head(self) -> LayerHead:
        return LayerHead(0, 1, "", "", self.blocks * 4096, 4096, 0)

    def marks(self):
        return self.table.starts, self.table.ends, np.ones(len(self.table), dtype=np.uint64)

    def runs(self, first: int, end: int) -> Runs:
        return self.table.cut(first, end)

    def places(self, pack: int):
        return 0, PLACES


@st.composite
def changes(draw) -> list[tuple[list, int, int]]:
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        blocks = draw(st.integers(1, BLOCKS))
        told, at = [], 0
        while at < blocks and draw(st.booleans()):
            start = draw(st.integers(at, blocks - 1))
            length = draw(st.integers(1, min(4, blocks - start)))
            place = draw(st.one_of(st.none(), st.tuples(st.integers(0, 1), st.integers(0, 20))))
            told.append((start, length, place))
            at = start + length
        steps.append((told, blocks, draw(st.integers(0, blocks))))
    return steps


def change_of(told: list, blocks: int, floor: int) -> Change:
    columns = [
        (start, length, ZERO if place is None else np.uint64(place[0] << 32 | place[1]))
        for start, length, place in told
    ]
    starts, lengths, locations = zip(*columns, strict=True) if columns else ((), (), ())
    runs = Runs(*(np.array(c, dtype=np.uint64) for c in (starts, lengths, locations)))
    return Change(FakeSpan(runs, blocks), floor)


@given(changes(), st.sets(st.integers(0, 24)), st.sets(st.integers(0, 24)))
def test_as_the_model_says(steps, one, two):
    lost = {
        "one": np.array(sorted(one), dtype=np.intp),
        "two": np.array(sorted(two), dtype=np.intp),
    }
    walk, image, used = DamageWalk(lost), {}, {"one": set(), "two": set()}
    bad = {0: one, 1: two}
    for told, blocks, floor in steps:
        walk.apply(change_of(told, blocks, floor))
        image = {b: place for b, place in image.items() if b < floor}
        for start, length, place in told:
            for n in range(length):
                image[start + n] = None if place is None else (place[0], place[1] + n)
        damaged = [b for b, p in sorted(image.items()) if p is not None and p[1] in bad[p[0]]]
        assert walk.blocks.tolist() == damaged
        for block in damaged:
            pack, slot = image[block]
            used[PLACES[pack].ref.name].add((slot, block))
    for name, pairs in used.items():
        slots, blocks = walk.uses(name)
        assert list(zip(slots.tolist(), blocks.tolist(), strict=True)) == sorted(pairs)


def test_ranges_end_where_the_image_ends():
    blocks = np.array([0, 1, 5, 9], dtype=np.uint64)
    found = byte_ranges(blocks, block_size=4096, size=9 * 4096 + 512)
    assert found == [(0, 8192), (20480, 24576), (36864, 36864 + 512)]
    assert byte_ranges(blocks[:0], block_size=4096, size=1) == []
