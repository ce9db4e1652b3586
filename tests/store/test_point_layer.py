"""The layer in the making, against every block's location noted one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.model import KNOWN_PACK
from blocksnapd.store import tables
from blocksnapd.store.point_layer import PointLayer
from blocksnapd.store.runs import expand
from blocksnapd.store.tables import read_table

# (gap to the block before, known pack or -1 - own pack, slot)
BLOCKS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([9, 4, 70_000, -1, -2, -3]), st.integers(0, 4)),
    min_size=1,
    max_size=60,
)


def written(rows, batch: int):
    """Give ``rows`` to a writer; return its table and what it must say."""
    writer, blocks, block = PointLayer(), [], 0
    for gap, _, _ in rows:
        block += gap
        blocks.append(block)
    known = sorted({pack for _, pack, _ in rows if pack >= 0})
    given_, expected = [], []
    for _, pack, slot in rows:
        own = pack < 0
        given_.append((-1 - pack) << 32 | slot if own else int(KNOWN_PACK) | pack << 32 | slot)
        index = len(known) - 1 - pack if own else known.index(pack)
        expected.append(index << 32 | slot)
    for at in range(0, len(rows), batch):
        part = slice(at, at + batch)
        writer.add(np.array(blocks[part], np.uint64), np.array(given_[part], np.uint64))
    return writer.finish(known), blocks, expected


@given(BLOCKS, st.integers(1, 60))
def test_every_block_is_where_it_was_said_to_be(rows, batch):
    parts, blocks, expected = written(rows, batch)
    found, locations = expand(read_table(parts, located=True))
    assert found.tolist() == blocks
    assert locations.tolist() == expected


@given(st.integers(1, 100), st.integers(1, 40))
def test_batches_leave_no_seam(count, batch):
    rows = [(1, -1, slot) for slot in range(count)]
    assert sum(part.n for part in written(rows, batch)[0]) == 1


def test_a_large_layer_is_kept_packed(monkeypatch):
    monkeypatch.setattr(tables, "RUNS_PER_PART_MAX", 16)
    rows = [(2, (9, -1)[i % 2], i % 5) for i in range(200)]
    parts, blocks, expected = written(rows, 7)
    assert len(parts) > 5
    found, locations = expand(read_table(parts, located=True))
    assert (found.tolist(), locations.tolist()) == (blocks, expected)


def test_nothing_is_an_empty_table():
    assert PointLayer().finish([]) == []
