from __future__ import annotations

import contextlib
import os
import resource
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.blocks import state_sum
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
    update = store.begin(point, base, block_size=4096, block_count=count)
    update.put(blocks, rows(blocks, salt))
    update.seal()


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
    assert sorted(os.listdir(tmp_path / "f")) == ["data-p1", "head.json"]


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


class Killed(BaseException):
    """Stops a thread of work where a SIGKILL would."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(kill_at=st.integers(0, 12), grow=st.booleans())
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
    shutil.rmtree(directory)
