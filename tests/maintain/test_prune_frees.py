"""What a plan frees, against a model that holds every slot by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.maintain.prune_frees import measure
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.runs import Runs

BLOCKS, PACKS, SLOTS = 12, 4, 11
SIZES = [SLOTS * n for n in (1, 3, 10, 400)]  # bytes of each pack: a slot is 1, 3, 10, 400


def place(number: int) -> PackPlace:
    ref = PackRef(f"pack-{number}", SIZES[number], "", 0, "", SLOTS)
    return PackPlace(ref, "vol-1", 4096, ref.name, 0)


def runs_of(rows: list[tuple[int, tuple[int, int]]], order) -> Runs:
    """Return runs of one block each, whose packs count in ``order``."""
    array = np.array(
        [(block, 1, order.index(at[0]) << 32 | at[1]) for block, at in rows], dtype=np.uint64
    ).reshape(-1, 3)
    return Runs(array[:, 0].copy(), array[:, 1].copy(), array[:, 2].copy())


class Model:
    """Gaps as dictionaries: each (told, blocks, order of its packs)."""

    def __init__(self, gaps) -> None:
        self.gaps = []
        before = 0
        for told, blocks, order in gaps:
            told = {b: at for b, at in told.items() if b < blocks}
            self.gaps.append((told, blocks, min(before, blocks), order))
            before = blocks
        self.reads: list[tuple[int, int]] = []

    def windows(self, after: int, upto: int):
        """Yield the merged content of some gaps in two pieces, packs as they are needed."""
        self.reads.append((after, upto))
        below, order = {}, self.gaps[upto - 1][3]
        for told, _, floor, _ in self.gaps[after:upto]:
            below = {b: at for b, at in below.items() if b < floor} | told
        rows = [(b, at) for b, at in sorted(below.items()) if at is not None]
        places: list[PackPlace] = []
        for first, end in ((0, BLOCKS // 2), (BLOCKS // 2, BLOCKS)):
            piece = [(b, at) for b, at in rows if first <= b < end]
            needed = max((order.index(at[0]) + 1 for _, at in piece), default=0)
            places += [place(n) for n in order[len(places) : needed]]
            yield runs_of(piece, order), places

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
    assert [r for r in model.reads if r[1] - r[0] == 1] == [(seq - 1, seq) for seq in seqs]
    assert len(model.reads) <= len(seqs) + 2 * len(forgotten)


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
