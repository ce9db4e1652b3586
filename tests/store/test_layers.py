"""What layers say: packs renumbered, floors lowered to where the image before ended."""

from __future__ import annotations

import numpy as np

from blocksnapd.store.layers import floors, renumbered
from blocksnapd.store.runs import ZERO
from tests.store.test_runs import build


def test_renumbering_moves_content_and_leaves_zeros():
    runs = build([(0, 2, 5), (0, 2, None), (1, 1, (1 << 32) + 3)])
    moved = renumbered(runs, np.array([4, 9], dtype=np.uint64))
    assert moved.locations.tolist() == [(4 << 32) + 5, int(ZERO), (9 << 32) + 3]


def test_a_floor_is_where_the_image_before_ended():
    """Sizes 9, 4, 7: what is said of the second is complete from 4 on, of the third too."""
    assert floors([(9, 0), (4, 4), (7, 7)], 0) == [0, 4, 4]
    assert floors([(4, 4), (7, 7)], 9) == [4, 4]
    assert floors([], 3) == []
