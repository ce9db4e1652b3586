"""Records of verification: what goes in comes out; any other byte is an error of ours."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError, FormatError, RepositoryFormatError
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.record_format import (
    BadRecord,
    BadRows,
    Checked,
    HealedRecord,
    OkRecord,
    bad_pack_record,
    open_record,
    read_record,
    seal_record,
)

REPOSITORY, KEY = "0123456789abcdef" * 2, bytes(range(32))
STEM = "t/vol-1/202601/0000000000000007-01234567"
PACK = PackRef("v/vol-1/d/20260102/x.pk", 1000, "ab", 400, "cd", 9, holder="h", offset=5)
ROWS = BadRows(
    np.array([3, 4, 4], dtype=np.uint64),
    np.array([70, 1 << 40, 9], dtype=np.uint64),
    np.arange(48, dtype=np.uint8).reshape(3, 16),
)
BAD = bad_pack_record(PACK, ROWS, "it is torn", time_us=7, newest_seq=3)
ALL = [
    (OkRecord((Checked(5, ("a", "b")), Checked(6, ()))), f"{STEM}.ok"),
    (BAD, f"{STEM}.bad"),
    (BadRecord("v/vol-1/p/x.pt", "it is gone", 7, 3), f"{STEM}.bad"),
    (HealedRecord(f"{STEM}.bad", 8), f"{STEM}.healed"),
]


def sealed(record, name: str) -> bytes:
    return seal_record(record, name, REPOSITORY, KEY)


@pytest.mark.parametrize(("record", "name"), ALL)
def test_what_is_told_is_read(record, name):
    assert open_record(sealed(record, name), name, REPOSITORY, KEY) == record


def test_rows_come_back():
    found = open_record(sealed(BAD, ALL[1][1]), ALL[1][1], REPOSITORY, KEY)
    rows = found.rows()
    assert rows.slots.tolist() == [3, 4, 4]
    assert rows.blocks.tolist() == [70, 1 << 40, 9]
    assert (rows.identities == ROWS.identities).all()
    assert len(ALL[2][0].rows()) == 0


@pytest.mark.parametrize(("record", "name"), ALL)
def test_each_byte_counts(record, name):
    data = sealed(record, name)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with pytest.raises(FormatError):
            open_record(bytes(changed), name, REPOSITORY, KEY)
    for end in (0, 7, 8, 40, len(data) - 1):
        with pytest.raises(FormatError):
            open_record(data[:end], name, REPOSITORY, KEY)
    with pytest.raises(FormatError):
        open_record(data + b"\0", name, REPOSITORY, KEY)


@pytest.mark.parametrize(
    ("name", "repository", "key"),
    [
        (STEM.replace("vol-1", "vol-2") + ".bad", REPOSITORY, KEY),
        (STEM[:-1] + "8.bad", REPOSITORY, KEY),
        (STEM + ".bad", "f" * 32, KEY),
        (STEM + ".bad", REPOSITORY, bytes(32)),
    ],
)
def test_taken_elsewhere_it_is_worth_nothing(name, repository, key):
    with pytest.raises(ChecksumError):
        open_record(sealed(BAD, f"{STEM}.bad"), name, repository, key)


def test_two_of_the_same_content_share_nothing_that_a_thief_could_compare():
    assert sealed(BAD, f"{STEM}.bad")[44:] != sealed(BAD, f"{STEM}.bad")[44:]


def test_another_kind_than_its_name_says_is_refused():
    for record, name in ALL:
        for _, other in ALL:
            if other != name:
                with pytest.raises(RepositoryFormatError, match="another kind"):
                    open_record(sealed(record, other), other, REPOSITORY, KEY)


def test_rows_that_do_not_fit_are_refused():
    import msgspec

    whole = {"type": "bad", "name": "n", "problem": "", "time_us": 1, "newest_seq": 1}
    rows = {"count": 3, "slots": BAD.slots, "blocks": BAD.blocks, "identities": BAD.identities}
    for wrong in (
        {"count": 2}, {"count": -1}, {"count": 1 << 40}, {"slots": b""}, {"identities": b"x"},
        {"blocks": b"\x01"}, {"count": "3"}, {"identities": 7},
    ):  # fmt: skip
        plain = msgspec.msgpack.encode({**whole, **rows, **wrong})
        with pytest.raises(RepositoryFormatError):
            read_record(plain, f"{STEM}.bad")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data):
    for _, name in ALL:
        with contextlib.suppress(FormatError):
            read_record(data, name)
        with pytest.raises(FormatError):
            open_record(b"BSNRECRD\x01\0\0\0" + data, name, REPOSITORY, KEY)
