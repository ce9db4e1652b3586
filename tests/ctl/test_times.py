"""Times as people write them, against zones made up for it and a slow search of their clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapctl.times import (
    UnclearTimeError,
    local_iso,
    nearest,
    read_time,
    show,
    understood,
)
from blocksnapd.errors import UsageError
from tests.fakes.operations import point

if TYPE_CHECKING:
    from collections.abc import Callable

CET = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 23, 9, 30, 15, tzinfo=CET)


class Shifted(tzinfo):
    """A zone whose clocks are put from one offset to another at an instant, in minutes."""

    def __init__(self, at: datetime, before: int, after: int) -> None:
        self.at, self.before, self.after = at, timedelta(minutes=before), timedelta(minutes=after)

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        wall = moment.replace(tzinfo=UTC)
        early, late = wall - self.before < self.at, wall - self.after < self.at
        if early == late:
            return self.before if early else self.after
        # Between: it comes twice (first by the old offset), or never (fold 0 is the old one, too).
        return self.after if moment.fold else self.before

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None

    def fromutc(self, moment: datetime) -> datetime:
        instant = moment.replace(tzinfo=UTC)
        is_late = instant >= self.at
        wall = instant + (self.after if is_late else self.before)
        early = wall - self.before < self.at
        return wall.replace(tzinfo=self, fold=is_late and early and self.before > self.after)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("14:05", "2026-11-23 14:05:00 +01:00"),
        ("9:05", "2026-11-23 09:05:00 +01:00"),
        ("14:05:30", "2026-11-23 14:05:30 +01:00"),
        ("today", "2026-11-23 00:00:00 +01:00"),
        ("today 14:05", "2026-11-23 14:05:00 +01:00"),
        ("Yesterday  14:05", "2026-11-22 14:05:00 +01:00"),
        ("yesterday", "2026-11-22 00:00:00 +01:00"),
        ("2026-11-22", "2026-11-22 00:00:00 +01:00"),
        ("2026-11-22 14:05", "2026-11-22 14:05:00 +01:00"),
        ("2026-11-22T14:05:06.789", "2026-11-22 14:05:06 +01:00"),
        ("20261122T140506", "2026-11-22 14:05:06 +01:00"),
        ("20261122T1405Z", "2026-11-22 15:05:00 +01:00"),
        ("2026-11-22T14:05Z", "2026-11-22 15:05:00 +01:00"),
        ("2026-11-22 14:05 UTC", "2026-11-22 15:05:00 +01:00"),
        ("2026-11-22 14:05 +01:00", "2026-11-22 14:05:00 +01:00"),
        ("14:05 -0530", "2026-11-23 20:35:00 +01:00"),
        ("today 23:00-10:00", "2026-11-23 10:00:00 +01:00"),  # there it is yesterday still
        ("2026-11-22Z", "2026-11-22 01:00:00 +01:00"),
        ("90m ago", "2026-11-23 08:00:15 +01:00"),
        ("1d2h ago", "2026-11-22 07:30:15 +01:00"),
        ("now", "2026-11-23 09:30:15 +01:00"),
    ],
)
def test_what_people_write(text: str, wanted: str) -> None:
    assert show(read_time(text, NOW)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "tomorrow", "latest", "14", "14:5", "24:00", "14:60", "14:05:60",
        "2026-13-01", "2026-02-30", "2026-11-22T", "2026-11-22T14", "2026-11-2214:05", "todayT",
        "14:05+99:00", "14:05+01:60", "14:05 CET", "0001-01-01 00:00+05:00",
        "9999-12-31 23:00-05:00", "ago", "5 ago", "99999999999999d ago", "1e9d ago", "14:05\x00",
        "²²:05", "9" * 4000, "+01:00",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="is no time") as caught:
        read_time(text, NOW)
    assert "yesterday 14:05" in caught.value.hint
    assert len(caught.value.message) < 300


@given(st.text(max_size=40) | st.from_regex(r"[0-9tTzZ:+. -]{0,30}", fullmatch=True))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        found = read_time(text, NOW)
    except UsageError:
        return
    assert found.tzinfo is CET
    assert show(found)


moments = st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1)).map(
    lambda m: m.replace(microsecond=0)
)
offsets = st.integers(-14 * 60, 14 * 60)


@given(moments, offsets, offsets)
def test_what_is_shown_is_read_as_the_same_instant(wall: datetime, here: int, there: int) -> None:
    zones = [timezone(timedelta(minutes=minutes)) for minutes in (here, there)]
    moment = wall.replace(tzinfo=zones[0])
    assert read_time(show(moment), NOW.astimezone(zones[1])) == moment
    assert read_time(f"{wall:%Y-%m-%d %H:%M:%S}", NOW.astimezone(zones[0])) == moment


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
    st.sampled_from([-720, -60, 0, 60, 330, 765]),
    st.sampled_from([-120, -60, -30, 0, 30, 60, 120]),
    st.integers(-150, 150),
    st.sampled_from([0, 1, 59]),
)
def test_clocks_that_are_put_on_or_back(
    at: datetime, before: int, change: int, minutes: int, seconds: int
) -> None:
    """Each wall time around the change, against all instants at which the clocks showed it."""
    at = at.replace(second=0, microsecond=0, tzinfo=UTC)
    zone = Shifted(at, before, before + change)
    near = at + timedelta(minutes=before + minutes, seconds=seconds)
    text = f"{near:%Y-%m-%d %H:%M:%S}"
    instants = [
        i
        for offset, is_late in ((before, False), (before + change, True))
        if ((i := near - timedelta(minutes=offset)) >= at) == is_late
    ]
    now = datetime(2035, 1, 1, tzinfo=UTC).astimezone(zone)
    if len(set(instants)) == 1:
        assert read_time(text, now).astimezone(UTC) == instants[0]
        return
    with pytest.raises(UnclearTimeError) as caught:
        read_time(text, now)
    if not instants:
        assert "never was: the clocks went from" in caught.value.message
        assert all(abs(i - at) <= timedelta(hours=2) for i in caught.value.around)
        return
    assert "came twice" in caught.value.message
    assert list(caught.value.around) == instants
    for instant in instants:  # and what the message shows is understood
        shown = show(instant.astimezone(zone))
        assert shown in caught.value.message
        assert read_time(shown, now).astimezone(UTC) == instant


def test_how_it_was_understood() -> None:
    moment = datetime(2026, 11, 22, 14, 5, tzinfo=CET)
    asked = "14:05 read as 2026-11-22 14:05:00 +01:00; the point is of "
    cases: dict[str, Callable[[], datetime]] = {
        "14:03:00 +01:00, 2m00s before.": lambda: moment - timedelta(minutes=2),
        "2026-11-21 23:59:00 +01:00, 14h06m before.": lambda: datetime(
            2026, 11, 21, 22, 59, tzinfo=UTC
        ),
        "14:05:00 +01:00: that very instant.": lambda: moment,
    }
    for wanted, made in cases.items():
        assert understood("14:05", moment, made()) == asked + wanted


def test_times_of_messages_in_a_zone() -> None:
    assert local_iso("2026-11-22T14:00:00.000Z", CET) == "2026-11-22T15:00:00.000+01:00"
    assert local_iso("2026-11-22T14:00:00.000Z", UTC) == "2026-11-22T14:00:00.000Z"
    assert show(NOW, beside=NOW) == "09:30:15 +01:00"
    late = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)  # of the same day here
    assert show(NOW, beside=late) == "09:30:15 +01:00"


def test_the_nearest_on_both_sides() -> None:
    points = [point(n, minutes=70 - 10 * n) for n in range(1, 7)]
    around = datetime(2026, 11, 22, 13, 40, tzinfo=UTC)
    assert nearest(points[::-1], [around], UTC).splitlines() == [
        "The nearest points:",
        "p0003000000000000  2026-11-22 13:25:00Z",
        "p0004000000000000  2026-11-22 13:35:00Z",
        "p0005000000000000  2026-11-22 13:45:00Z",
        "p0006000000000000  2026-11-22 13:55:00Z",
    ]
    both = nearest(points, [around, around + timedelta(hours=9)], CET)
    assert both.splitlines()[-1] == "p0006000000000000  2026-11-22 14:55:00 +01:00"
    assert len(both.splitlines()) == 5
    assert nearest([], [around], UTC) == ""
