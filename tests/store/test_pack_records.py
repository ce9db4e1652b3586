"""What the source remembers of a pack comes back, or is refused."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.names import pack_name, point_name
from blocksnapd.store.pack_format import PACK_BLOCKS_MAX, PACK_SIZE_MAX
from blocksnapd.store.pack_records import RECORD_SIZE_MAX, pack_ref_record, unpack_ref_record
from blocksnapd.store.point_format import POINT_SIZE_MAX, PackRef

VOLUME = "v" * 128
POINT = "p0123456789abcdef"
LARGEST = PackRef(
    name=pack_name(VOLUME, "20260102", POINT, 0xFFFF_FFFF, "0" * 8), size=PACK_SIZE_MAX,
    digest="ab" * 32, tail_size=PACK_SIZE_MAX, tail_digest="cd" * 32, blocks=PACK_BLOCKS_MAX,
    holder=point_name(VOLUME, (1 << 64) - 1, POINT), offset=POINT_SIZE_MAX,
)  # fmt: skip


def test_the_largest_fits_and_comes_back():
    record = pack_ref_record(LARGEST, VOLUME)
    assert len(record) <= RECORD_SIZE_MAX
    assert unpack_ref_record(record, VOLUME) == LARGEST


def test_without_a_holder_there_is_none():
    alone = msgspec.structs.replace(LARGEST, holder="", offset=0)
    assert unpack_ref_record(pack_ref_record(alone, VOLUME), VOLUME) == alone


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, ""), (1, 0), (1, PACK_SIZE_MAX + 1), (2, b"x"), (3, 10), (4, b""), (5, 0),
     (5, PACK_BLOCKS_MAX + 1), (7, -1), (0, 5)],
)  # fmt: skip
def test_what_cannot_be_is_refused(at, value):
    fields = msgspec.msgpack.decode(pack_ref_record(LARGEST, VOLUME))
    fields[at] = value
    with pytest.raises(RepositoryFormatError):
        unpack_ref_record(msgspec.msgpack.encode(fields), VOLUME)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_pack_or_refused(data):
    with contextlib.suppress(RepositoryFormatError):
        unpack_ref_record(data, VOLUME)
