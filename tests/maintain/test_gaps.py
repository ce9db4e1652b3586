"""Gaps out of points' own bodies: an image by its gaps is the image."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.gaps import PointGaps
from blocksnapd.maintain.prune_frees import merged
from blocksnapd.store.layers import relocate
from blocksnapd.store.point_reader import PointReader, map_of
from blocksnapd.store.runs import expand
from tests.store.support import BLOCK, VOLUME, Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    lab = Lab(blocks=24)
    lab.write(range(24))
    lab.commit()
    lab.commit(lab.write([1, 2, 9]))
    lab.resize(10 * BLOCK)  # what lies beyond is gone, also once it grows again
    lab.commit(lab.write([3]))
    lab.resize(20 * BLOCK)
    lab.commit(np.union1d(lab.write([4, 15]), lab.zero([2])))
    lab.commit(lab.write([5]))
    return lab


def gaps_of(lab: Lab, without: int = 0) -> PointGaps:
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    return PointGaps(reader, [p.name for p, _ in lab.kept if p.seq != without])


def content(runs, packs) -> dict[int, tuple[str, int]]:
    """Return where each block with content lies: name of the pack, slot."""
    blocks, locations = expand(runs.content())
    return {
        b: (packs[at >> 32].name, at & 0xFFFFFFFF)
        for b, at in zip(blocks.tolist(), locations.tolist(), strict=True)
    }


@pytest.mark.parametrize("stops", [[5], [1, 5], [2, 5], [3, 5], [1, 2, 3, 4, 5], [2, 4, 5]])
def test_gaps_one_over_the_other_are_the_image(lab, stops):
    gaps, found, after = gaps_of(lab), None, 0
    for seq in stops:
        gap = gaps.gap(after, seq)
        if found is not None:
            packs = [*found.packs, *gap.packs]
            gap = type(gap)(relocate(gap.runs, len(found.packs)), gap.blocks, gap.floor, packs)
        found, after = gap if found is None else merged(found, gap), seq
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    whole = map_of(reader.chain(lab.kept[-1][0].name))
    assert content(found.runs, found.packs) == content(whole.runs, [p.ref for p in whole.places])
    assert (found.blocks, found.floor) == (20, 0)
    assert VOLUME in found.packs[0].name


def test_a_point_that_is_gone_is_told(lab):
    with pytest.raises(NotFoundError, match="place 3"):
        gaps_of(lab, without=3).gap(2, 4)
    with pytest.raises(NotFoundError, match="nothing between"):
        gaps_of(lab).gap(4, 4)
