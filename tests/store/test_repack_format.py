"""What a repacked pack tells of origins: what goes in comes out; nothing hostile does."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError, RepositoryFormatError
from blocksnapd.store.columns import pack_column
from blocksnapd.store.names import pack_name
from blocksnapd.store.repack_format import (
    Origins,
    RepackRecord,
    Source,
    pack_origins,
    read_origins,
    slots_here,
)

SEAL = bytes(80)


def source(number: int, volume: str = "v") -> Source:
    return Source(pack_name(volume, "20260102", f"p{number:016x}", 0, "0a1b2c3d"), SEAL)


def u64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


COUNTS = u64(4, 1, 3)
GOOD = Origins(
    sources=(source(1), source(2)), keys=u64(0, 1, 2), numbers=u64(0, 7, 2), counts=COUNTS,
    origins=u64(0, 0, 1, 1, 0, 1, 1, 1), slots=u64(5, 6, 1, 2, 9, 4, 5, 6),
    blocks=u64(50, 60, 10, 20, 90, 40, 2**63, 6), here=slots_here(COUNTS, 4),
)  # fmt: skip


def read(record: RepackRecord, **more: object) -> Origins:
    given = {"volume_id": "v", "frames": 3, "frame_blocks": 4, "slots": 11, "name": "x", **more}
    return read_origins(record, **given)


def test_it_comes_back():
    found = read(pack_origins(GOOD))
    assert found.sources == GOOD.sources
    for field in ("keys", "numbers", "counts", "origins", "slots", "blocks", "here"):
        assert (getattr(found, field) == getattr(GOOD, field)).all()


def test_frames_leave_slots_free_behind_them():
    assert slots_here(COUNTS, 4).tolist() == [0, 1, 2, 3, 4, 8, 9, 10]


@pytest.mark.parametrize(
    "change",
    [
        {"sources": []},
        {"sources": [source(1)]},
        {"sources": [source(1), source(1)]},
        {"sources": [source(1), source(2, "w")]},
        {"sources": [source(1), Source("v/v/p/x", SEAL)]},
        {"sources": [source(1), Source(source(2).name, b"short")]},
        {"counts": pack_column(u64(5, 1, 3))},
        {"counts": pack_column(u64(4, 0, 3))},
        {"counts": pack_column(u64(4, 1, 2))},
        {"counts": pack_column(u64(4, 1))},
        {"keys": pack_column(u64(0, 1, 3))},
        {"origins": pack_column(u64(0, 0, 1, 1, 0, 1, 1, 2))},
        {"slots": pack_column(u64(0, 0, 1, 1, 0, 1, 1, 1 << 20))},
        {"blocks": b""},
    ],
)
def test_what_does_not_fit_is_refused(change):
    with pytest.raises(RepositoryFormatError):
        read(msgspec.structs.replace(pack_origins(GOOD), **change))


@given(st.lists(st.binary(max_size=40), min_size=6, max_size=6))
def test_any_columns_are_read_or_refused(columns):
    record = RepackRecord([source(1)], *columns)
    try:
        found = read(record)
    except BlocksnapError:
        return
    assert len(found.here) == len(found.slots)
