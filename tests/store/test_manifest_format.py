"""Manifests as bytes: what goes in comes out, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError, ChecksumError, RepositoryFormatError
from blocksnapd.store.keys import bind_keys, new_keys
from blocksnapd.store.manifest_format import (
    Forgotten,
    Hold,
    LayerRef,
    Manifest,
    ManifestHeader,
    Moved,
    Patch,
    PointEntry,
    Verified,
    pack_manifest,
    read_manifest,
    unpack_manifest,
)
from blocksnapd.store.names import layer_name, manifest_name
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.records import pack_record

KEYS = bind_keys(new_keys("0123456789abcdef" * 2), "ab" * 32)
VOLUME = "vol-1"
PACK = PackRef("v/vol-1/d/20260102/x.pk", 1000, "ab" * 32, 300, "cd" * 32, 16)


def entry(seq: int) -> PointEntry:
    return PointEntry(
        seq, f"p{seq:016x}", 10**15 + seq, 4096, "delta", "tracked", "crash", 1, 2, 3, ("nightly",)
    )


def layer(first: int, last: int) -> LayerRef:
    return LayerRef(first, last, layer_name(VOLUME, first, last, "0" * 8), 900, 300, bytes(32))


FULL = Manifest(
    points=(entry(1), entry(2), entry(5)),
    layers=(layer(0, 2), layer(2, 5)),
    forgotten=(Forgotten(2, 5, 9, "older than all rules"),),
    holds=(Hold(5, 7, 0, "audit"),),
    verified=(Verified(1, 8, "data"),),
    moved=(Moved("v/vol-1/d/20260101/y.pk", (PACK,)),),
    patches=(Patch("v/vol-1/d/20260101/z.pk", 3, 2, msgspec.structs.replace(PACK, holder="h"), 9),),
    epoch=4,
    pack_count=3,
    pack_bytes=10**12,
)


def packed(manifest: Manifest = FULL, generation: int = 7) -> bytes:
    source = KEYS.source
    header = ManifestHeader(source.repository_id, VOLUME, generation, "ef" * 32, 123)
    return pack_manifest(
        header, manifest, metadata_public=source.metadata_public, hash_key=source.hash_key
    )


def unpacked(data: bytes, name: str = manifest_name(VOLUME, 7), repository: str = ""):
    return unpack_manifest(
        data,
        name,
        repository or KEYS.source.repository_id,
        hash_key=KEYS.source.hash_key,
        metadata_private=KEYS.metadata_private,
    )


def test_a_manifest_comes_back():
    found = unpacked(packed())
    assert found.manifest == FULL
    assert (found.generation, found.volume_id, found.time_us) == (7, VOLUME, 123)


def test_every_flipped_byte_is_found():
    data = packed()
    for at in range(len(data)):
        with pytest.raises((ChecksumError, RepositoryFormatError)):
            unpacked(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


@given(st.integers(0, 5000))
def test_every_cut_is_found(size):
    data = packed()
    with pytest.raises((ChecksumError, RepositoryFormatError)):
        unpacked(data[: min(size, len(data) - 1)])


def test_it_is_bound_to_its_name_and_repository():
    with pytest.raises(RepositoryFormatError, match="not the manifest it is named as"):
        unpacked(packed(), manifest_name(VOLUME, 8))
    with pytest.raises(RepositoryFormatError, match="not the manifest it is named as"):
        unpacked(packed(), manifest_name("vol-2", 7))
    with pytest.raises(RepositoryFormatError, match="belongs to repository"):
        unpacked(packed(), repository="ff" * 16)


@pytest.mark.parametrize(
    "changed",
    [
        {"points": (entry(2), entry(1))},
        {"points": (entry(1), entry(1))},
        {"forgotten": (Forgotten(3, 0, 0),)},
        {"holds": (Hold(5, 0), Hold(1, 0))},
        {"verified": (Verified(9, 0, "data"),)},
        {"layers": (msgspec.structs.replace(layer(0, 2), to_seq=3),)},
        {"layers": (layer(2, 2),)},
        {"layers": (msgspec.structs.replace(layer(0, 2), tail_size=901),)},
        {"layers": (msgspec.structs.replace(layer(0, 2), tail_digest=b"short"),)},
    ],
)
def test_what_contradicts_itself_is_refused(changed):
    with pytest.raises(RepositoryFormatError):
        read_manifest(pack_record(msgspec.structs.replace(FULL, **changed)), "m", VOLUME)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_documented_error(data):
    for decode in (unpacked, lambda plain: read_manifest(plain, "m", VOLUME)):
        try:
            decode(data)
        except BlocksnapError:
            continue


def test_ten_thousand_points_take_little_room():
    many = Manifest(points=tuple(entry(seq) for seq in range(1, 10_001)))
    assert len(packed(many)) < 600_000
