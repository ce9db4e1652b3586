from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle.calendar import Rhythm, due_in_s, retry_delay_s

RHYTHM = Rhythm(every_s=300, retry_first_s=10, retry_factor=2, retry_max_s=120)


def test_the_first_cycle_is_due_at_once() -> None:
    assert due_in_s(RHYTHM, since_start_s=None, failures=0) == 0


def test_the_interval_counts_from_the_start_of_the_last_cycle() -> None:
    assert due_in_s(RHYTHM, since_start_s=100, failures=0) == 200
    assert due_in_s(RHYTHM, since_start_s=1000, failures=0) == 0


def test_failures_back_off_to_a_limit() -> None:
    assert [retry_delay_s(RHYTHM, n) for n in (1, 2, 3, 4, 5, 6)] == [10, 20, 40, 80, 120, 120]
    assert due_in_s(RHYTHM, since_start_s=4, failures=1) == 6


@given(st.integers(1, 10**9))
def test_years_of_failures_stay_within_the_limit(failures: int) -> None:
    assert 10 <= retry_delay_s(RHYTHM, failures) <= 120
