"""Locks at a receiver: they end with whoever holds them, and are taken again where they may."""

from __future__ import annotations

import threading
import time

import pytest

from blocksnapd.errors import BusyError, StoreError
from tests.receive.running import Dialer, Running


@pytest.fixture
def receiver(tmp_path, monkeypatch):
    monkeypatch.setattr("blocksnapd.store.receiver.LEASE_BEAT_S", 0.02)
    with Running(tmp_path) as running:
        (running.root / "db01").mkdir()
        yield running


def until(condition):
    """Wait until ``condition`` holds; it is the other side's turn."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def can_lock(store) -> bool:
    try:
        store.lock("v/a/").release()
    except BusyError:
        return False
    return True


def test_a_lock_ends_with_its_connection(receiver):
    """As when a source is killed: another one may write at once."""
    dialer = Dialer(receiver)
    lock = receiver.opened(dialer).lock("v/a/")
    other = receiver.opened(Dialer(receiver))
    assert not can_lock(other)
    dialer.is_down = True
    lock._link.close()
    until(lambda: can_lock(other))
    lock.release()


def test_a_lock_whose_holder_is_silent_ends(receiver, monkeypatch):
    monkeypatch.setattr("blocksnapd.receive.application.LEASE_S", 0.2)
    monkeypatch.setattr("blocksnapd.store.receiver.LEASE_BEAT_S", 3600.0)
    lock = receiver.opened(Dialer(receiver)).lock("v/a/")
    until(lambda: can_lock(receiver.opened(Dialer(receiver))))
    lock.release()


def test_a_lock_that_beats_is_held_for_long(receiver, monkeypatch):
    monkeypatch.setattr("blocksnapd.receive.application.LEASE_S", 2.0)
    lock = receiver.opened(Dialer(receiver)).lock("v/a/")
    other, end = receiver.opened(Dialer(receiver)), time.monotonic() + 2.5
    while time.monotonic() < end:
        assert not can_lock(other)
    lock.release()
    assert can_lock(other)


def test_a_broken_lock_is_taken_again(receiver):
    dialer = Dialer(receiver)
    store = receiver.opened(dialer)
    lock = store.lock("v/a/")
    dialer.cut_after = dialer.sent  # the next beat breaks the connection
    until(lambda: dialer.dialed > 1 and lock._held is not None)
    assert not can_lock(receiver.opened(Dialer(receiver)))
    store.put("v/a/p/1", [b"x"])
    lock.release()
    assert can_lock(store)


def test_a_lock_that_somebody_else_got_stops_this_writer(receiver):
    dialer = Dialer(receiver)
    store, other = receiver.opened(dialer), receiver.opened(Dialer(receiver))
    lock = store.lock("v/a/")
    dialer.is_down = True
    lock._link.close()
    until(lambda: can_lock(other))
    theirs = other.lock("v/a/")
    dialer.is_down = False
    until(lambda: lock.lost is not None)
    with pytest.raises(BusyError, match="another writer"):
        store.put("v/a/p/1", [b"two writers"])
    store.put("v/b/p/1", [b"another volume"])
    lock.release()
    theirs.release()
    store.put("v/a/p/1", [b"x"])


def test_no_lock_without_a_receiver(receiver):
    dialer = Dialer(receiver)
    dialer.is_down = True
    with pytest.raises(StoreError, match="there is no way"):
        receiver.opened(dialer).lock("v/a/")


def test_a_lock_that_comes_after_its_release_is_not_kept(receiver):
    """The thread that takes a broken lock again may be slower than whoever lets it go."""
    dialer = Dialer(receiver)
    lock = receiver.opened(dialer).lock("v/a/")
    slow, go_on = threading.Event(), threading.Event()
    dial = dialer.dial

    def wait_and_dial():
        slow.set()
        assert go_on.wait(30)
        return dial()

    dialer.dial = wait_and_dial
    lock._link.close()
    assert slow.wait(30)
    lock.release()
    go_on.set()
    other = receiver.opened(Dialer(receiver))
    until(lambda: not lock._thread.is_alive())
    until(lambda: can_lock(other))
