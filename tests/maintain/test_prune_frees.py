"""What a plan frees, against a model that holds every slot by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.maintain.prune_frees import Gap, measure
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.runs import ZERO, Runs

BLOCKS, PACKS, SLOTS = 12, 4, 11
SIZES = [SLOTS * n for n in (1, 3, 10, 400)]  # bytes of each pack: a slot is 1, 3, 10, 400


def pack(number: int) -> PackRef:
    return PackRef(f"pack-{number}", SIZES[number], "", 0, "", SLOTS)


def gap_of(told: dict[int, tuple[int, int] | None], blocks: int, floor: int, order) -> Gap:
    """Return a gap that tells these blocks, its packs in this order."""
    rows = [
        (block, 1, int(ZERO) if at is None else order.index(at[0]) << 32 | at[1])
        for block, at in sorted(told.items())
        if block < blocks
    ]
    array = np.array(rows, dtype=np.uint64).reshape(-1, 3)
    runs = Runs(array[:, 0].copy(), array[:, 1].copy(), array[:, 2].copy())
    return Gap(runs, blocks, floor, [pack(n) for n in order])


class Model:
    """Gaps as dictionaries: each (told, blocks, floor)."""

    def __init__(self, gaps) -> None:
        self.gaps = []
        before = 0
        for told, blocks, order in gaps:
            told = {b: at for b, at in told.items() if b < blocks}
            self.gaps.append((told, blocks, min(before, blocks), order))
            before = blocks
        self.reads: list[tuple[int, int]] = []

    def gap(self, after: int, upto: int) -> Gap:
        self.reads.append((after, upto))
        # The reader's floor says nothing of where the image before had ended.
        told, blocks, _, order = self.gaps[upto - 1]
        return gap_of(told, blocks, blocks, order)

    def named(self, forgotten) -> set[tuple[int, int]]:
        """Return the slots that are named once ``forgotten`` are gone."""
        slots, below = set(), {}
        for seq, (told, _, floor, _) in enumerate(self.gaps, 1):
            below = {b: at for b, at in below.items() if b < floor} | told
            if seq not in forgotten:
                slots |= {at for at in below.values() if at is not None}
                below = {}
        return slots

    def freed(self, forgotten) -> int:
        return sum(
            SIZES[number] // SLOTS for number, _ in self.named(set()) - self.named(forgotten)
        )


places = st.one_of(st.none(), st.tuples(st.integers(0, PACKS - 1), st.integers(0, SLOTS - 1)))
some_gaps = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, BLOCKS - 1), places),
        st.integers(0, BLOCKS),
        st.permutations(range(PACKS)),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(some_gaps, st.sets(st.integers(1, 8)))
def test_what_is_freed_together_and_alone(gaps, forgotten):
    model = Model(gaps)
    seqs = list(range(1, len(gaps) + 1))
    forgotten = {seq for seq in forgotten if seq < len(gaps)}
    found = measure(seqs, forgotten, model)
    assert found.total == model.freed(forgotten)
    assert found.alone == {seq: model.freed({seq}) for seq in forgotten}
    assert model.reads == [(seq - 1, seq) for seq in seqs]  # each layer is read once


def test_shares_are_less_than_the_whole_where_points_share():
    # The same slot in the gaps of 1 and 2: it goes only when both do.
    told = {0: (3, 5)}
    model = Model(
        [({**told}, 1, [0, 1, 2, 3]), (told, 1, [3, 2, 1, 0]), ({0: None}, 1, [0, 1, 2, 3])]
    )
    found = measure([1, 2, 3], {1, 2}, model)
    assert found.alone == {1: 0, 2: 0}
    assert found.total == 400


def test_progress_is_told():
    told: list[tuple[int, int]] = []
    model = Model([({}, 4, [0, 1, 2, 3])] * 3)
    assert measure([1, 2, 3], [], model, progress=lambda *now: told.append(now)) == (0, {})
    assert told == [(1, 3), (2, 3), (3, 3)]
