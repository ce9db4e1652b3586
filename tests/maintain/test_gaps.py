"""Gaps of a real repository, by points' own layers and by merged ones."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.gaps import StackGaps
from blocksnapd.maintain.merge import merge_due
from blocksnapd.store.listing import list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.runs import expand
from tests.store.support import BLOCK, VOLUME, Lab

CHANGED = {2: [1, 2, 9], 3: [3], 4: [4, 15], 5: [5]}  # point → blocks that got content


@pytest.fixture
def lab() -> Lab:
    lab = Lab(blocks=24)
    lab.write(range(24))
    lab.commit()
    lab.commit(lab.write(CHANGED[2]))
    lab.resize(10 * BLOCK)  # what lies beyond is gone, also once it grows again
    lab.commit(lab.write(CHANGED[3]))
    lab.resize(20 * BLOCK)
    lab.commit(np.union1d(lab.write(CHANGED[4]), lab.zero([2])))
    lab.commit(lab.write(CHANGED[5]))
    return lab


def gaps_of(lab: Lab) -> StackGaps:
    loaded = Manifests(lab.store, lab.keys).newest(VOLUME)
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    points = list_points(lab.store, reader, loaded).points
    return StackGaps(lab.store, reader, loaded, points)


def content(gaps: StackGaps, after: int, upto: int) -> dict[int, tuple[str, int]]:
    """Return where each block that changed lies: name of the pack, slot."""
    found = {}
    for runs, places in gaps.windows(after, upto):
        blocks, locations = expand(runs)
        for block, at in zip(blocks.tolist(), locations.tolist(), strict=True):
            found[block] = (places[at >> 32].ref.name, at & 0xFFFFFFFF)
    return found


@pytest.mark.parametrize(
    ("after", "upto", "blocks"),
    [
        (1, 2, CHANGED[2]),
        (2, 3, CHANGED[3]),
        (1, 3, [1, 2, 3, 9]),
        (3, 4, CHANGED[4]),
        (1, 4, [1, 3, 4, 9, 15]),
        (2, 5, [3, 4, 5, 15]),
        (0, 1, list(range(24))),
        (0, 3, list(range(10))),
        (0, 5, [0, 1, *range(3, 10), 15]),
    ],
)
def test_what_changed_between_two_points(lab, after, upto, blocks):
    assert sorted(content(gaps_of(lab), after, upto)) == blocks


def test_merged_layers_tell_the_same_when_points_are_gone(lab):
    manifests = Manifests(lab.store, lab.keys)
    loaded = manifests.newest(VOLUME)
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    points = list_points(lab.store, reader, loaded).points
    wanted = {pair: content(gaps_of(lab), *pair) for pair in ((0, 4), (1, 4), (4, 5))}
    kept = [p for p in points if p.seq in {1, 4, 5}]
    merges = merge_due(lab.store, lab.keys, loaded, kept, budget=1 << 30)
    manifest = type(loaded.manifest)(points=tuple(kept), layers=merges.layers)
    manifests.publish(loaded, manifest, time_us=1)
    for seq in (2, 3):
        lab.store.delete(lab.kept[seq - 1][0].name)
    assert {pair: content(gaps_of(lab), *pair) for pair in wanted} == wanted
    with pytest.raises(NotFoundError):
        content(gaps_of(lab), 2, 4)
