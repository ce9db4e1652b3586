"""Quotas: what is there and what is on its way never exceed them together."""

from __future__ import annotations

import threading

import pytest

from blocksnapd.errors import QuotaError
from blocksnapd.receive.usage import COUNT_AGAIN_S, LOOK_AGAIN_S, Usage


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_there_counts_and_what_failed_does_not(tmp_path):
    (tmp_path / "v/a").mkdir(parents=True)
    (tmp_path / "v/a/x").write_bytes(b"x" * 700)
    (tmp_path / "y").write_bytes(b"y" * 50)
    usage = Usage(str(tmp_path), Clock())
    assert usage.known is None
    assert usage.used() == 750
    with usage.reserved(200, 1000, "db01"):
        assert usage.used() == 950
        with pytest.raises(QuotaError, match="db01"), usage.reserved(51, 1000, "db01"):
            raise AssertionError("there was no room")
    assert usage.used() == 950
    with pytest.raises(KeyError), usage.reserved(50, 1000, "db01"):
        raise KeyError("the network broke")
    assert usage.used() == usage.known == 950


def test_room_that_maintenance_freed_is_seen_before_a_refusal(tmp_path):
    clock, file = Clock(), tmp_path / "x"
    file.write_bytes(b"x" * 900)
    usage = Usage(str(tmp_path), clock)
    assert usage.used() == 900
    file.unlink()
    with pytest.raises(QuotaError), usage.reserved(500, 1000, "db01"):
        raise AssertionError("it looked again at once")
    clock.now += LOOK_AGAIN_S + 1
    with usage.reserved(500, 1000, "db01"):
        pass
    (tmp_path / "x").write_bytes(b"x" * 10)
    clock.now += COUNT_AGAIN_S + 1
    assert usage.used() == 10


def test_many_at_once_never_get_more_than_there_is(tmp_path):
    usage, got = Usage(str(tmp_path), Clock()), []
    start = threading.Barrier(16)

    def take() -> None:
        start.wait()
        try:
            with usage.reserved(100, 1000, "db01"):
                got.append(1)
        except QuotaError:
            pass

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 10
