"""What a session notes of itself: found again after a cut, whatever became of the file."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.model import NOWHERE
from blocksnapd.store import session_log
from blocksnapd.store.names import pack_name
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.session_log import AGE_S_MAX, Session, SessionLog
from tests.store.support import VOLUME, point_id

WANTED = Session("0123456789abcdef" * 2, VOLUME, point_id(2), 2, 4096)


def ref(number: int, blocks: int) -> PackRef:
    name = pack_name(VOLUME, "20260102", point_id(2), number, f"{number:08x}")
    return PackRef(name, 100_000 + number, "ab" * 32, 5000, "cd" * 32, blocks)


def rows(first: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    blocks = np.arange(first, first + 2 * count, 2, dtype=np.uint64)
    dice = np.random.default_rng(first + seed)
    return blocks, dice.integers(1, 256, (count, 16), dtype=np.uint8)


def opened(path: str, wanted: Session = WANTED, now: float = 100.0) -> SessionLog:
    log = SessionLog(path, wanted, now)
    log.begin(7, 50.0)
    return log


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "state" / "session")


@pytest.fixture
def noted(path) -> str:
    log = opened(path)
    for number, first in enumerate((0, 1000, 500)):
        assert log.note(ref(number, 100), *rows(first, 100))
    log.close()
    return path


def test_what_was_noted_is_found_by_block_and_identity(noted):
    log = opened(noted)
    assert log.since == (7, 50.0)
    for index, first in enumerate((0, 1000, 500)):
        blocks, hashes = rows(first, 100)
        found = log.find(blocks, hashes)
        assert (
            found == (np.uint64(index) << np.uint64(32)) + np.arange(100, dtype=np.uint64)
        ).all()
        assert log.ref(index) == ref(index, 100)
        changed = hashes.copy()
        changed[::3, 15] ^= 1
        expected = np.where(np.arange(100) % 3 == 0, NOWHERE, found)
        assert (log.find(blocks, changed) == expected).all()
        assert (log.find(blocks + np.uint64(1), hashes) == NOWHERE).all()
    assert log.names == [ref(number, 100).name for number in range(3)]


def test_a_batch_over_several_packs(noted):
    log = opened(noted)
    (a, b), (c, d) = rows(0, 100), rows(500, 100)
    found = log.find(np.concatenate([a, c]), np.concatenate([b, d]))
    assert (found[:100] >> np.uint64(32) == 0).all()
    assert (found[100:] >> np.uint64(32) == 2).all()
    assert log.find(a[:0], b[:0]).shape == (0,)


def test_a_session_that_goes_on_notes_more(noted):
    log = opened(noted)
    log.begin(99, 99.0)  # known already: it stays as old as it is
    assert log.note(ref(3, 5), *rows(9000, 5))
    assert (log.find(*rows(9000, 5)) == NOWHERE).all()  # its own are found by others
    log.close()
    again = opened(noted)
    assert again.since == (7, 50.0)
    assert (again.find(*rows(9000, 5)) >> np.uint64(32) == 3).all()


@pytest.mark.parametrize(
    "other",
    [{"point_id": point_id(3)}, {"seq": 3}, {"repository_id": "f" * 32}, {"block_size": 8192},
     {"volume_id": "vol-2"}],
)  # fmt: skip
def test_another_session_starts_anew_and_the_file_goes(noted, other):
    log = SessionLog(noted, msgspec.structs.replace(WANTED, **other), 100.0)
    assert log.since is None
    assert not os.path.exists(noted)


@pytest.mark.parametrize("now", [49.0, 50.0 + AGE_S_MAX, 1e12])
def test_one_too_old_or_of_the_future_is_not_gone_on_from(noted, now):
    assert opened(noted, now=now).since is None
    assert not os.path.exists(noted)


def test_nor_is_one_of_another_boot(noted, monkeypatch):
    """Its clock began anew, so nobody knows how old it is."""
    monkeypatch.setattr(session_log, "_boot_id", lambda: "another")
    assert opened(noted).since is None


def test_without_a_path_nothing_is_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = opened("")
    assert not log.note(ref(0, 1), *rows(0, 1))
    log.remove()
    assert os.listdir(tmp_path) == []


def test_removed_is_removed(noted):
    log = opened(noted)
    log.remove()
    assert not os.path.exists(noted)
    assert not log.note(ref(0, 1), *rows(0, 1))
    assert opened(noted).since is None


def test_a_disk_without_room_costs_the_log_and_nothing_else(path):
    os.makedirs(os.path.dirname(path))
    os.symlink("/dev/full", path + "-full")
    log = opened(path)
    assert log.note(ref(0, 5), *rows(0, 5))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._fd)
    os.close(full)
    assert not log.note(ref(1, 5), *rows(50, 5))
    assert not log.note(ref(2, 5), *rows(90, 5))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_torn_or_damaged_anywhere_it_tells_nothing_wrong(noted, data):
    """Cut at any byte, or with any bit turned: what is found is what was noted, or nothing."""
    with open(noted, "rb") as file:
        good = file.read()
    if data.draw(st.booleans()):
        spoiled = good[: data.draw(st.integers(0, len(good)))]
    else:
        at = data.draw(st.integers(0, 8 * len(good) - 1))
        changed = bytearray(good)
        changed[at // 8] ^= 1 << at % 8
        spoiled = bytes(changed)
    copy = noted + "-copy"
    with open(copy, "wb") as file:
        file.write(spoiled)
    log = SessionLog(copy, WANTED, 100.0)
    assert log.since in (None, (7, 50.0))
    for index, first in enumerate((0, 1000, 500)):
        found = log.find(*rows(first, 100))
        told = found != NOWHERE
        assert (found[told] >> np.uint64(32) == index).all()
        assert (found[told] & np.uint64(0xFFFFFFFF) == np.arange(100, dtype=np.uint64)[told]).all()
        if told.any():
            assert log.ref(index) == ref(index, 100)
    log.begin(8, 60.0)
    assert log.note(ref(9, 5), *rows(9000, 5))  # and it goes on
    log.close()
    again = SessionLog(copy, WANTED, 100.0)
    assert (again.find(*rows(9000, 5)) != NOWHERE).all()
    again.close()
