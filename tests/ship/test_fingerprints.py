from __future__ import annotations

import contextlib
import os
import resource
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.blocks import state_sum
from blocksnapd.model import NOWHERE
from blocksnapd.runtime import durable
from blocksnapd.ship.fingerprints import Fingerprints, FingerprintStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocksnapd.model import U8, U64

COUNT = 1000


def rows(blocks: U64, salt: int) -> U8:
    generator = np.random.default_rng(salt)
    return generator.integers(1, 255, (len(blocks), 16), dtype=np.uint8)


def numbers(*blocks: int) -> U64:
    return np.array(sorted(blocks), dtype=np.uint64)


def ship(
    store: FingerprintStore, point: str, base: Fingerprints | None, blocks: U64, salt: int,
    count: int = COUNT,
) -> None:  # fmt: skip
    """Ship ``blocks`` as the blocks of a pack that is named as the point."""
    update = store.begin(point, base, block_size=4096, block_count=count)
    hashes = rows(blocks, salt)
    update.put(blocks, hashes)
    update.content.note(blocks, hashes, np.arange(len(blocks), dtype=np.uint64))
    update.seal([point.encode()])
    update.close()


def lies_at(store: FingerprintStore, known: Fingerprints, hashes: U8) -> list[tuple[bytes, int]]:
    """Return what a session after ``known`` is told of content: pack and slot."""
    update = store.begin("next", known, block_size=4096, block_count=known.head.block_count)
    found = update.content.find(hashes).tolist()
    told = [
        (b"", 0)
        if place == int(NOWHERE)
        else (update.content.pack(place >> 32 & 0xFFFF), place & 0xFFFF_FFFF)
        for place in found
    ]
    update.close()
    return told


def opened(store: FingerprintStore, point: str) -> Fingerprints:
    found = store.open(point)
    assert found is not None
    return found


def test_a_first_point_and_a_second_one(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(0, 1, 2, 900), 1)
    first = opened(store, "p1")
    ship(store, "p2", first, numbers(1, 999), 2)
    second = opened(store, "p2")
    expected = np.zeros((COUNT, 16), dtype=np.uint8)
    expected[[0, 1, 2, 900]] = rows(numbers(0, 1, 2, 900), 1)
    expected[[1, 999]] = rows(numbers(1, 999), 2)
    everything = np.arange(COUNT, dtype=np.uint64)
    assert (second.get(everything) == expected).all()
    assert second.state_sum() == state_sum(everything, expected)


def test_blocks_past_the_end_have_no_fingerprint(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(5), 1)
    assert not opened(store, "p1").get(numbers(1000, 2**60)).any()


def test_a_point_that_was_never_committed_leaves_no_trace(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1), 1)
    first = opened(store, "p1")
    ship(store, "p2", first, numbers(1), 2)
    again = opened(store, "p1")
    assert (again.get(numbers(1)) == rows(numbers(1), 1)).all()
    kept = ["data-p1", "head.json", "hints", "packs-p1", "places-p1"]
    assert sorted(os.listdir(tmp_path / "f")) == kept
    assert lies_at(store, again, rows(numbers(1), 1)) == [(b"p1", 0)]
    assert lies_at(store, again, rows(numbers(1), 2)) == [(b"", 0)]


def test_another_repository_has_no_fingerprints_here(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1), 1)
    opened(store, "p1")
    assert store.open("unknown") is None
    assert store.open("p1") is None  # they are gone: the next point starts afresh


@pytest.mark.parametrize("damage", ["cut", "flip", "unsealed", "gone"])
def test_damaged_pending_rows_are_never_used(tmp_path: Path, damage: str) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1), 1)
    ship(store, "p2", opened(store, "p1"), numbers(1, 2), 2)
    path = tmp_path / "f" / "pending-p2"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[40] ^= 1
    path.write_bytes({"cut": data[:-30], "unsealed": data[:-24]}.get(damage, data))
    if damage == "gone":
        path.unlink()
    assert store.open("p2") is None


@contextlib.contextmanager
def room_up_to(size: int) -> Iterator[None]:
    """Let the kernel write files up to ``size`` bytes: it takes a part, then says why."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_row_that_found_no_room_is_an_error(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    update = store.begin("p1", None, block_size=4096, block_count=COUNT)
    blocks = numbers(10, 11, 12)
    with room_up_to(11 * 16 + 8), pytest.raises(OSError, match="large"):
        update.put(blocks, rows(blocks, 1))
    update.close()


def test_a_full_disk_after_the_commit_costs_no_fingerprint(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1, 900), 1)
    ship(store, "p2", opened(store, "p1"), numbers(900), 2)
    with room_up_to(4096), pytest.raises(OSError, match="large"):
        store.open("p2")
    assert (opened(store, "p2").get(numbers(1)) == rows(numbers(1, 900), 1)[:1]).all()
    assert (opened(store, "p2").get(numbers(900)) == rows(numbers(900), 2)).all()


def test_content_is_found_by_what_it_is(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(0, 1, 2, 900), 1)
    hashes = rows(numbers(0, 1, 2, 900), 1)
    assert lies_at(store, opened(store, "p1"), hashes) == [(b"p1", slot) for slot in range(4)]
    ship(store, "p2", opened(store, "p1"), numbers(1, 5), 2)
    second = opened(store, "p2")
    told = [(b"p1", 0), (b"", 0), (b"p1", 2), (b"p1", 3)]  # what block 1 held is there no more
    assert lies_at(store, second, hashes) == told
    assert lies_at(store, second, rows(numbers(1, 5), 2)) == [(b"p2", 0), (b"p2", 1)]


@pytest.mark.parametrize("byte", range(16))
def test_all_of_an_identity_counts(tmp_path: Path, byte: int) -> None:
    """Also what neither hint nor place look at: another content is never referred to."""
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1), 1)
    near = rows(numbers(1), 1)
    near[0, byte] ^= 1
    assert lies_at(store, opened(store, "p1"), near) == [(b"", 0)]


def test_fingerprints_of_before_there_were_places_go_on(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1, 2), 1)
    head = tmp_path / "f" / "head.json"
    opened(store, "p1")
    for name in ("hints", "packs-p1", "places-p1"):
        (tmp_path / "f" / name).unlink()
    old = msgspec.json.decode(head.read_bytes())
    del old["places"]
    head.write_bytes(msgspec.json.encode(old))
    first = opened(store, "p1")
    assert (first.get(numbers(1)) == rows(numbers(1, 2), 1)[:1]).all()
    assert lies_at(store, first, rows(numbers(1, 2), 1)) == [(b"", 0)] * 2
    ship(store, "p2", opened(store, "p1"), numbers(2), 2)
    told = lies_at(
        store, opened(store, "p2"), np.concatenate([first.get(numbers(1)), rows(numbers(2), 2)])
    )
    assert told == [(b"", 0), (b"p2", 0)]
    ship(store, "p3", opened(store, "p2"), numbers(7), 3)
    third = opened(store, "p3")
    assert lies_at(store, third, third.get(numbers(1, 2, 7))) == [(b"", 0), (b"p2", 0), (b"p3", 0)]


@pytest.mark.parametrize("name", ["places-p1", "packs-p1", "hints"])
@pytest.mark.parametrize("how", ["gone", "cut", "noise"])
def test_lost_or_damaged_places_cost_no_fingerprint(tmp_path: Path, name: str, how: str) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1, 2), 1)
    opened(store, "p1")
    path = tmp_path / "f" / name
    size = path.stat().st_size
    if how == "noise":
        path.write_bytes(np.random.default_rng(1).bytes(size))
    elif how == "cut":
        os.truncate(path, size - 1)
    else:
        path.unlink()
    found = opened(store, "p1")
    assert (found.get(numbers(1, 2)) == rows(numbers(1, 2), 1)).all()
    hashes = rows(numbers(1, 2), 1)
    is_made_anew = name == "hints" and how != "noise"
    told = [(b"p1", 0), (b"p1", 1)] if is_made_anew else [(b"", 0)] * 2
    assert lies_at(store, found, hashes) == told
    ship(store, "p2", opened(store, "p1"), numbers(1), 3)
    assert (opened(store, "p2").get(numbers(1)) == rows(numbers(1), 3)).all()


def test_hints_are_made_anew_where_a_volume_outgrows_them(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1, 900), 1)
    ship(store, "p2", opened(store, "p1"), numbers(8000), 2, 9000)
    second = opened(store, "p2")
    told = [(b"p1", 0), (b"p1", 1), (b"p2", 0)]
    assert lies_at(store, second, second.get(numbers(1, 900, 8000))) == told


def test_no_room_for_places_costs_no_point(tmp_path: Path) -> None:
    store = FingerprintStore(str(tmp_path / "f"))
    ship(store, "p1", None, numbers(1), 1)
    first = opened(store, "p1")
    update = store.begin("p2", first, block_size=4096, block_count=COUNT)
    update.put(numbers(1), rows(numbers(1), 2))
    many = np.arange(900, dtype=np.uint64)
    with room_up_to(8000):
        update.content.note(many, rows(many, 2), many)
        update.seal([b"p2"])
    second = opened(store, "p2")
    assert second.head.places is None
    assert (second.get(numbers(1)) == rows(numbers(1), 2)).all()


class Killed(BaseException):
    """Stops a thread of work where a SIGKILL would."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=60, deadline=None)
@given(kill_at=st.integers(0, 24), grow=st.booleans())
def test_killed_at_any_durable_step_it_is_the_old_or_the_new(kill_at: int, grow: bool) -> None:
    """Killed between any two durable calls, before or after the commit: right, or none."""
    directory = f"/tmp/blocksnap-test-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    store = FingerprintStore(directory)
    ship(store, "p1", None, numbers(1, 2), 1)
    base = opened(store, "p1")
    calls = 0

    def counted(function):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal calls
            if calls == kill_at:
                raise Killed
            calls += 1
            return function(*args, **kwargs)

        return call

    committed = False
    with pytest.MonkeyPatch.context() as patch:
        for name in ("remove", "replace", "sync_file"):
            patch.setattr(durable, name, counted(getattr(durable, name)))
        try:
            ship(store, "p2", base, numbers(2, 3), 2, COUNT + 24 * grow)
            committed = True  # here the repository would commit the point
            store.open("p2")
        except Killed:
            pass
    again = FingerprintStore(directory)
    found = opened(again, "p2" if committed else "p1")
    expected = np.zeros((4, 16), dtype=np.uint8)
    expected[[1, 2]] = rows(numbers(1, 2), 1)
    if committed:
        expected[[2, 3]] = rows(numbers(2, 3), 2)
    assert (found.get(numbers(0, 1, 2, 3)) == expected).all()
    told = lies_at(again, found, np.concatenate([expected[1:], rows(numbers(1, 2), 1)[1:]]))
    assert told == (
        [(b"p1", 0), (b"p2", 0), (b"p2", 1), (b"", 0)]
        if committed
        else [(b"p1", 0), (b"p1", 1), (b"", 0), (b"p1", 1)]
    )
    shutil.rmtree(directory)
