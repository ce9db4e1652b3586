"""Places: found as noted, refused when anything about them is not as it was."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import numpy as np
import pytest

from blocksnapd.model import KNOWN_PACK, NOWHERE
from blocksnapd.ship import places
from blocksnapd.ship.places import (
    Places,
    PlacesHead,
    PlacesUpdate,
    finish_places,
    whole_places,
)

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 300
BLOCKS = np.arange(10, 40, dtype=np.uint64)


def identities(count: int = len(BLOCKS), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, 16), dtype=np.uint8)


def at(pack: int, slots: np.ndarray) -> np.ndarray:
    return np.uint64(pack << 32) + slots.astype(np.uint64)


def known(number: int, slot: int) -> int:
    return int(KNOWN_PACK) | number << 32 | slot


def point(path: Path, name: str, base: PlacesHead | None, notes, records) -> PlacesHead:
    """Note and seal and finish one point; return its head."""
    update = PlacesUpdate(str(path), name, base, COUNT)
    reader = Places(str(path), base, COUNT) if base else None
    for blocks, hashes, locations in notes:
        update.note(blocks, hashes, locations, reader)
    head = update.seal(records)
    assert head is not None
    done = finish_places(str(path), head, base, point_id=name, block_count=COUNT)
    assert done == head
    return head


@pytest.fixture
def first(tmp_path) -> PlacesHead:
    notes = [
        (BLOCKS[:20], identities()[:20], at(0, np.arange(20))),
        (BLOCKS[20:], identities()[20:], at(1, np.arange(10) * 7)),
    ]
    return point(tmp_path, "p1", None, notes, [b"pack zero", b"pack one"])


def test_what_was_noted_is_found(tmp_path, first):
    reader = Places(str(tmp_path), first, COUNT)
    found = reader.find(BLOCKS, identities())
    expected = [known(1, s) for s in range(20)] + [known(2, s * 7) for s in range(10)]
    assert found.tolist() == expected
    assert [reader.pack(1), reader.pack(2)] == [b"pack zero", b"pack one"]


def test_another_identity_is_nowhere(tmp_path, first):
    """A place of what the block held before, or holds by now, is none: the check tells."""
    reader = Places(str(tmp_path), first, COUNT)
    assert (reader.find(BLOCKS, identities(seed=2)) == NOWHERE).all()
    assert (reader.find(BLOCKS[::-1].copy(), identities()) == NOWHERE).all()
    assert (reader.find(np.arange(100, 130, dtype=np.uint64), identities()) == NOWHERE).all()


def test_a_second_point_adds_and_refers(tmp_path, first):
    refer = np.array([known(2, 7), known(1, 3)], dtype=np.uint64)
    hashes = identities()[[21, 3]]
    blocks = np.array([200, 201], dtype=np.uint64)
    new = np.array([11, 299], dtype=np.uint64)
    notes = [(new, identities(2, 5), at(0, np.arange(2))), (blocks, hashes, refer)]
    head = point(tmp_path, "p2", first, notes, [b"pack two"])
    reader = Places(str(tmp_path), head, COUNT)
    assert reader.find(blocks, hashes).tolist() == refer.tolist()
    assert reader.find(new, identities(2, 5)).tolist() == [known(3, 0), known(3, 1)]
    assert reader.pack(3) == b"pack two"
    assert reader.find(BLOCKS[:1], identities()[:1]).tolist() == [known(1, 0)]
    assert reader.find(BLOCKS[1:2], identities()[1:2]).tolist() == [int(NOWHERE)]
    assert (head.file, head.packs) == (first.file, first.packs)


def test_any_flipped_bit_of_a_place_costs_that_place_only(tmp_path, first):
    path = tmp_path / first.file
    whole = path.read_bytes()
    wrong = 0
    for bit in range(64):
        data = bytearray(whole)
        data[int(BLOCKS[5]) * 8 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        found = Places(str(tmp_path), first, COUNT).find(BLOCKS, identities())
        wrong += found[5] != NOWHERE
        assert (np.delete(found, 5) != NOWHERE).all()
    assert wrong == 0


def test_any_flipped_byte_of_a_pack_costs_that_pack_only(tmp_path, first):
    path = tmp_path / first.packs
    whole = path.read_bytes()
    for byte in range(256):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :])
        found = Places(str(tmp_path), first, COUNT).find(BLOCKS, identities())
        assert (found[:20] == NOWHERE).all()
        assert (found[20:] != NOWHERE).all()
    path.write_bytes(whole[256:] + whole[:256])  # both whole, each under the other's number
    assert (Places(str(tmp_path), first, COUNT).find(BLOCKS, identities()) == NOWHERE).all()


def test_numbers_are_given_again_and_nothing_is_taken_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "PACKS_MAX", 3)
    head, alive = None, {}
    for number in range(1, 12):
        blocks = np.array([number], dtype=np.uint64)
        hashes = identities(1, number)
        notes = [(blocks, hashes, at(0, np.arange(1)))]
        head = point(tmp_path, f"p{number}", head, notes, [b"pack %d" % number])
        alive[number] = hashes
        reader = Places(str(tmp_path), head, COUNT)
        found = {n: int(reader.find(np.array([n], np.uint64), h)[0]) for n, h in alive.items()}
        kept = {n: place for n, place in found.items() if place != int(NOWHERE)}
        assert list(kept) == list(range(max(1, number - 2), number + 1))
        for n, place in kept.items():
            assert reader.pack(place >> 32 & 0xFFFF) == b"pack %d" % n
    assert head is not None
    assert head.pack_rows == 3


def test_no_room_ends_places_and_nothing_else(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    update = PlacesUpdate(str(tmp_path), "p1", None, COUNT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        update.note(BLOCKS, identities(), at(0, np.arange(30)), None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    update.note(BLOCKS, identities(), at(0, np.arange(30)), None)
    assert update.seal([b"pack"]) is None


@pytest.mark.parametrize("lost", ["file", "packs", "pending-places-p2", "pending-packs-p2"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_what_is_lost_or_cut_is_no_places(tmp_path, first, lost, how):
    update = PlacesUpdate(str(tmp_path), "p2", first, COUNT)
    update.note(
        BLOCKS, identities(seed=3), at(0, np.arange(30)), Places(str(tmp_path), first, COUNT)
    )
    head = update.seal([b"pack two"])
    path = tmp_path / getattr(first, lost, lost)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30])
    if not lost.startswith("pending"):
        assert whole_places(str(tmp_path), first, COUNT) is None
    if lost.startswith("pending") or how == "gone":
        assert finish_places(str(tmp_path), head, first, point_id="p2", block_count=COUNT) is None


def test_places_of_other_files_are_not_gone_on_with(tmp_path, first):
    update = PlacesUpdate(str(tmp_path), "p2", first, COUNT)
    head = update.seal([])
    other = PlacesHead("places-x", first.packs, False, 2)
    for old in (None, other):
        assert finish_places(str(tmp_path), head, old, point_id="p2", block_count=COUNT) is None
    outside = PlacesHead("../places-p1", first.packs, False, 2)
    assert whole_places(str(tmp_path), outside, COUNT) is None
