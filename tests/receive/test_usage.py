"""Quotas: what is there and what is on its way never exceed them together."""

from __future__ import annotations

import threading

import pytest

from blocksnapd.errors import QuotaError
from blocksnapd.receive.usage import LOOK_AGAIN_S, OBJECT_SIZE_MIN, Usage, bytes_below

AGAIN_S = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counting(root, clock) -> Usage:
    return Usage(lambda: bytes_below(str(root)), AGAIN_S, clock)


def test_what_is_there_counts_and_what_failed_does_not(tmp_path):
    (tmp_path / "v/a").mkdir(parents=True)
    (tmp_path / "v/a/x").write_bytes(b"x" * 70_000)
    (tmp_path / "y").write_bytes(b"y" * 5000)
    usage = counting(tmp_path, Clock())
    assert usage.known is None
    assert usage.used() == 75_000
    with usage.reserved(20_000, 100_000, "db01"):
        assert usage.used() == 95_000
        with pytest.raises(QuotaError, match="db01"), usage.reserved(5100, 100_000, "db01"):
            raise AssertionError("there was no room")
    assert usage.used() == 95_000
    with pytest.raises(KeyError), usage.reserved(5000, 100_000, "db01"):
        raise KeyError("the network broke")
    assert usage.used() == usage.known == 95_000


def test_room_that_maintenance_freed_is_seen_before_a_refusal(tmp_path):
    clock, file = Clock(), tmp_path / "x"
    file.write_bytes(b"x" * 90_000)
    usage = counting(tmp_path, clock)
    assert usage.used() == 90_000
    file.unlink()
    with pytest.raises(QuotaError), usage.reserved(50_000, 100_000, "db01"):
        raise AssertionError("it looked again at once")
    clock.now += LOOK_AGAIN_S + 1
    with usage.reserved(50_000, 100_000, "db01"):
        pass
    (tmp_path / "x").write_bytes(b"x" * 10)
    clock.now += AGAIN_S + 1
    assert usage.used() == OBJECT_SIZE_MIN


def test_many_at_once_never_get_more_than_there_is(tmp_path):
    usage, got = counting(tmp_path, Clock()), []
    start = threading.Barrier(16)

    def take() -> None:
        start.wait()
        try:
            with usage.reserved(10_000, 100_000, "db01"):
                got.append(1)
        except QuotaError:
            pass

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 10


def test_empty_objects_do_not_come_for_free(tmp_path):
    """Each takes an inode, and those of a disk end, too: for every host."""
    usage, quota = counting(tmp_path, Clock()), 3 * OBJECT_SIZE_MIN
    for number in range(3):
        with usage.reserved(0, quota, "db01"):
            (tmp_path / str(number)).touch()
    with pytest.raises(QuotaError), usage.reserved(0, quota, "db01"):
        raise AssertionError("there was no room")
    assert counting(tmp_path, Clock()).used() == usage.used() == quota
