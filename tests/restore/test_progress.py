"""Progress against a handed-in clock."""

from __future__ import annotations

import pytest

from blocksnapd.restore.progress import REPORT_EVERY_S, Meter, Progress


class Ticker:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticker:
    return Ticker()


def test_steady_work_has_its_rate_and_ends_when_it_says(clock: Ticker) -> None:
    seen: list[Progress] = []
    meter = Meter(1000, seen.append, clock)
    for _ in range(9):
        clock.now += 1
        meter.advance(100)
    assert [p.done for p in seen] == [100 * n for n in range(1, 10)]
    assert all(p.rate == pytest.approx(100) for p in seen)
    assert seen[3].eta_s == pytest.approx(6)
    assert seen[-1].elapsed_s == pytest.approx(9)
    assert meter.elapsed_s == pytest.approx(9)


def test_a_burst_moves_the_rate_only_in_part(clock: Ticker) -> None:
    seen: list[Progress] = []
    meter = Meter(10_000, seen.append, clock)
    for size in (100, 100, 1000):
        clock.now += 1
        meter.advance(size)
    assert 150 < seen[-1].rate < 400


def test_reports_are_few_however_small_the_steps(clock: Ticker) -> None:
    seen: list[Progress] = []
    meter = Meter(1000, seen.append, clock)
    for _ in range(1000):
        clock.now += 0.001
        meter.advance(1)
    assert 1 <= len(seen) <= 1 / REPORT_EVERY_S


def test_a_new_phase_is_told_at_once_and_nothing_is_known_before_the_first_byte(
    clock: Ticker,
) -> None:
    seen: list[Progress] = []
    meter = Meter(10, seen.append, clock)
    meter.enter("write")
    assert (seen[0].phase, seen[0].eta_s, seen[0].rate) == ("write", None, 0)
    clock.now += 1
    meter.advance(10)
    assert seen[-1].eta_s == 0


def test_more_work_than_expected_moves_the_end(clock: Ticker) -> None:
    seen: list[Progress] = []
    meter = Meter(100, seen.append, clock)
    clock.now += 1
    meter.advance(100)
    meter.expect(300)
    meter.enter("verify")
    assert seen[-1].total == 300
    assert seen[-1].eta_s == pytest.approx(2)
