"""Lists and proofs of collections: what goes in comes out, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError, ChecksumError, RepositoryFormatError
from blocksnapd.store import collection_format
from blocksnapd.store.collection_format import (
    Condemned,
    Done,
    pack_collection,
    read_collection,
    unpack_collection,
)
from blocksnapd.store.names import (
    condemned_name,
    done_name,
    layer_name,
    manifest_name,
    pack_name,
    point_name,
    repacked_name,
)
from blocksnapd.store.records import pack_record

REPOSITORY = "0123456789abcdef" * 2
KEY = bytes(range(32))
POINT = "p" + "0" * 16


def pack(volume: str = "v") -> str:
    return pack_name(volume, "20260102", POINT, 0x12345, "0a1b2c3d")


FULL = Condemned(
    REPOSITORY, "v", 7, 10**15, 3, 9,
    packs=(pack(), repacked_name("v", "20260102", 4, 0, "0a1b2c3d")),
    replaced=(pack_name("v", "20260103", POINT, 0, "0a1b2c3d"),),
    points=(point_name("v", 2, POINT),), layers=(layer_name("v", 0, 4, "0a1b2c3d"),),
    manifests=(manifest_name("v", 1),),
    collections=(condemned_name("v", 1), done_name("v", 1)),
)  # fmt: skip
DONE = Done(REPOSITORY, "v", 7, 10**15, 9, 4, 12345, ("v/v/d/20260102/x",))


@pytest.mark.parametrize("record", [FULL, DONE])
def test_it_comes_back(record):
    assert unpack_collection(pack_collection(record, KEY), record.name, REPOSITORY, KEY) == record


def test_all_kinds_are_among_its_names():
    assert len(FULL.names) == 8
    assert FULL.name == "g/v/0000000000000007.cond"
    assert DONE.name == "g/v/0000000000000007.done"


@pytest.mark.parametrize("record", [FULL, DONE])
def test_every_flipped_byte_is_found(record):
    data = pack_collection(record, KEY)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((ChecksumError, RepositoryFormatError)):
            unpack_collection(changed, record.name, REPOSITORY, KEY)


@given(st.integers(0, 400))
def test_every_cut_is_found(size):
    data = pack_collection(FULL, KEY)
    with pytest.raises((ChecksumError, RepositoryFormatError)):
        unpack_collection(data[: min(size, len(data) - 1)], FULL.name, REPOSITORY, KEY)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    with pytest.raises(BlocksnapError):
        unpack_collection(data, FULL.name, REPOSITORY, KEY)
    with pytest.raises(BlocksnapError):
        read_collection(data, FULL.name, REPOSITORY)


def test_it_is_bound_to_name_repository_and_key():
    data = pack_collection(FULL, KEY)
    for name in (condemned_name("v", 8), condemned_name("w", 7), done_name("v", 7)):
        with pytest.raises(RepositoryFormatError, match="not the collection it is named as"):
            unpack_collection(data, name, REPOSITORY, KEY)
    with pytest.raises(RepositoryFormatError, match="belongs to repository"):
        unpack_collection(data, FULL.name, "ff" * 16, KEY)
    with pytest.raises(ChecksumError):
        unpack_collection(data, FULL.name, REPOSITORY, bytes(32))


@pytest.mark.parametrize(
    "changed",
    [
        {"packs": ("v/v/p/x.pk",)},
        {"packs": (pack("w"),)},
        {"packs": (point_name("v", 2, POINT),)},
        {"replaced": (pack("w"),)},
        {"points": (pack(),)},
        {"points": (point_name("w", 2, POINT),)},
        {"layers": (layer_name("w", 0, 4, "0a1b2c3d"),)},
        {"manifests": (manifest_name("w", 1),)},
        {"collections": ("repo.json",)},
        {"collections": (done_name("w", 1),)},
        {"newest_seq": -1},
        {"time_us": -1},
    ],
)
def test_it_condemns_nothing_but_objects_of_its_volume(changed):
    plain = pack_record(msgspec.structs.replace(FULL, **changed))
    with pytest.raises(RepositoryFormatError):
        read_collection(plain, FULL.name, REPOSITORY)


def test_an_epoch_is_at_least_one():
    zero = msgspec.structs.replace(FULL, epoch=0)
    with pytest.raises(RepositoryFormatError, match="cannot be"):
        read_collection(pack_record(zero), zero.name, REPOSITORY)


def test_more_names_than_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr(collection_format, "NAMES_MAX", 7)
    with pytest.raises(RepositoryFormatError, match="more than 7"):
        read_collection(pack_record(FULL), FULL.name, REPOSITORY)
    monkeypatch.setattr(collection_format, "NAMES_MAX", 0)
    with pytest.raises(RepositoryFormatError, match="more than 0"):
        read_collection(pack_record(DONE), DONE.name, REPOSITORY)


def test_a_newer_format_is_told():
    data = bytearray(pack_collection(FULL, KEY))
    data[8] = 2
    with pytest.raises(RepositoryFormatError, match="format 2"):
        unpack_collection(bytes(data), FULL.name, REPOSITORY, KEY)
