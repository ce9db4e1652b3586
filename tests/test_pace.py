"""The rules of traffic: windows of the week, pacing, backoff, patience."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd import pace
from blocksnapd.pace import Limit, Pacer, Traffic, Window, backoff_s, parse_window, patience_s

WEEK = [(day, minute) for day in range(7) for minute in range(24 * 60)]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Mon..Fri 08:00-18:00", [(0, 480), (4, 1079)], [(0, 479), (4, 1080), (5, 600)]),
        ("Sat,Sun", [(5, 0), (6, 1439)], [(4, 1439), (0, 0)]),
        ("Fri..Mon 00:00-24:00", [(4, 0), (0, 1439)], [(1, 0), (3, 1439)]),
        ("22:00-06:00", [(2, 1320), (3, 359), (0, 0)], [(2, 1319), (3, 360)]),
        ("Fri 22:00-06:00", [(4, 1320), (5, 359)], [(4, 359), (5, 1320)]),
        ("Sun 23:00-01:00", [(6, 1380), (0, 59)], [(6, 0), (0, 60)]),
        ("Mon,Wed..Thu 12:00-12:01", [(0, 720), (3, 720)], [(1, 720), (3, 721)]),
    ],
)
def test_windows(text: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> None:
    window = parse_window(text)
    assert all(window.holds(*moment) for moment in inside)
    assert not any(window.holds(*moment) for moment in outside)


@pytest.mark.parametrize(
    "text",
    ["", " ", "Mo", "mon", "Mon 8:00-18:00", "Mon 08:00", "Mon..Fri..Sun", "Mon, Tue",
     "24:01-25:00", "08:60-09:00", "08:00-08:00", "24:00-06:00", "Mon 01:00-02:00 Tue", "Mon..",
     ",", "Mon,"],
)  # fmt: skip
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time of the week|holds for no|no times of a day"):
        parse_window(text)


@given(
    st.text(max_size=24) | st.from_regex(r"[A-Z][a-z]{2}(\.\.[A-Z][a-z]{2})? \d\d:\d\d-\d\d:\d\d")
)
def test_any_text_is_a_window_that_holds_or_the_documented_error(text: str) -> None:
    try:
        window = parse_window(text)
    except ValueError:
        return
    assert any(window.holds(*moment) for moment in WEEK)


@given(st.sets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(1, 1440))
def test_a_window_lasts_as_long_on_each_of_its_days(days: set[int], start: int, last: int) -> None:
    """Also over midnight, and from Sunday to Monday: no minute is lost or added."""
    if last == 1440:
        start = 0  # a whole day is from midnight to midnight
    end = (start + last - 1) % 1440 + 1
    window = Window(frozenset(days), start, end)
    expected = {
        divmod((day * 1440 + start + n) % (7 * 1440), 1440) for day in days for n in range(last)
    }
    assert {moment for moment in WEEK if window.holds(*moment)} == expected


def test_the_last_limit_that_holds_counts() -> None:
    office = parse_window("Mon..Fri 08:00-18:00")
    traffic = Traffic((Limit(200), Limit(40, office), Limit(10, parse_window("Fri"))))
    assert [traffic.rate_at(day, 600) for day in (0, 4, 5)] == [40, 10, 200]
    assert Traffic((Limit(40, office),)).rate_at(5, 600) is None
    assert Traffic().rate_at(0, 0) is None


@given(
    st.lists(st.tuples(st.integers(1, 300_000), st.floats(0, 5)), min_size=1, max_size=40),
    st.integers(1_000, 1_000_000),
)
def test_no_stretch_of_time_sends_more_than_its_rate(
    pieces: list[tuple[int, float]], rate: int
) -> None:
    """Whoever asks when; and where there is something to send, the line does not idle."""
    pacer, now, turns, busy_until = Pacer(), 0.0, [], 0.0
    for size, pause in pieces:
        now += pause
        turn = now + pacer.wait_s(size, rate, now)
        assert turn == pytest.approx(max(now, busy_until))
        busy_until = turn + size / rate
        turns.append((turn, size))
    for first in range(len(turns)):
        sent = 0
        for (_, size), (until, _) in pairwise(turns[first:]):
            sent += size
            assert sent <= rate * (until - turns[first][0]) * (1 + 1e-9) + 1e-3


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_to_its_limit_and_is_spread_evenly(failures: int, dice: float) -> None:
    most = min(pace.BACKOFF_S_MAX, pace.BACKOFF_FIRST_S * 2 ** min(failures - 1, 60))
    assert backoff_s(failures, dice) == pytest.approx(dice * most)


def test_patience_grows_with_what_has_to_move() -> None:
    assert patience_s(120, 0) == 120
    assert patience_s(120, 32 << 20) == 120 + (32 << 20) / pace.CRAWL
