"""Which point is meant, against a list that a person would search by eye."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.control.messages import parse_time
from blocksnapd.control.selectors import resolve, resolve_any
from blocksnapd.errors import BlocksnapError, NotFoundError, UsageError
from tests.fakes.operations import NOW, point

if TYPE_CHECKING:
    from blocksnapd.control.messages import Point

DISK = "/srv/a@b.img"
POINTS = [point(1, minutes=10), point(2, minutes=5), point(3, minutes=1), point(9, DISK)]


@pytest.mark.parametrize(
    ("selector", "seq"),
    [
        ("p0001", 1),
        (POINTS[1]["id"], 2),
        ("p0009", 9),
        ("latest:vg0/home", 3),
        ("vg0/home@latest", 3),
        (f"latest:{DISK}", 9),
        (f"{DISK}@latest", 9),
        ("vg0/home@2026-11-22T14:00Z", 2),
        ("vg0/home@2026-11-22T14:00:00.000Z", 2),
        ("vg0/home@2026-11-22T13:59:59Z", 1),
        ("vg0/home@2026-11-22 15:00+01:00", 2),
        ("vg0/home@20261122T140000Z", 2),
        ("vg0/home@2099-01-01T00:00Z", 3),
        (f"{DISK}@2026-11-22T14:05Z", 9),
    ],
)
def test_found(selector: str, seq: int) -> None:
    found = resolve(selector, POINTS)
    assert found["seq"] == seq
    assert "note" not in found


def test_without_a_zone_it_is_utc_and_said_so() -> None:
    found = resolve("vg0/home@2026-11-22T14:00", POINTS)
    assert found["seq"] == 2
    assert found["note"] == "No time zone was given: 2026-11-22T14:00 was read as UTC."
    assert "note" not in POINTS[1]


@pytest.mark.parametrize(
    ("selector", "error", "wanted"),
    [
        ("", UsageError, "names no point"),
        ("p" * 5000, UsageError, "names no point"),
        ("p00", UsageError, "begins the ids of 4 points: p0001"),
        ("q", NotFoundError, "no point's id begins with 'q'"),
        ("latest:vg0/x", NotFoundError, "no point of a volume 'vg0/x'"),
        ("vg0/x@latest", NotFoundError, "no point of a volume 'vg0/x'"),
        ("vg0/home@2026-11-22T13:00Z", NotFoundError, "no point as old as 2026-11-22 13:00:00 UTC"),
        ("vg0/home@yesterday", UsageError, "'yesterday' is not a date with a time"),
        ("vg0/home@2026-11-22", UsageError, "is not a date with a time"),
        ("vg0/home@2026-13-22T14:00", UsageError, "is not a date with a time"),
        ("vg0/home@", UsageError, "'' is not a date with a time"),
    ],
)
def test_refused(selector: str, error: type[BlocksnapError], wanted: str) -> None:
    with pytest.raises(error, match=wanted) as caught:
        resolve(selector, POINTS)
    assert caught.value.hint


def test_a_whole_id_wins_over_longer_ones() -> None:
    short: Point = {**point(1), "id": "pab"}
    longer: Point = {**point(2), "id": "pabc"}
    assert resolve("pab", [longer, short])["seq"] == 1


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True),
    st.integers(-5, 60),
)
def test_the_newest_not_after_against_a_slow_model(ages: list[int], asked: int) -> None:
    made = [point(n + 1, minutes=age) for n, age in enumerate(sorted(ages, reverse=True))]
    moment = parse_time("2026-11-22T14:05:00.000Z") - timedelta(minutes=asked)
    older = [p for p in made if parse_time(p["time"]) <= moment]
    selector = f"vg0/home@{moment.isoformat()}"
    if older:
        assert resolve(selector, made) == older[-1]
    else:
        with pytest.raises(NotFoundError):
            resolve(selector, made)
    assert moment.timestamp() == NOW - 60 * asked


def test_a_forgotten_point_is_found_by_its_id_only() -> None:
    until = "2026-12-06T14:00:00.000Z"
    gone: list[Point] = [
        {**point(4, minutes=0), "forgotten": {"since": until, "until": until, "reason": ""}}
    ]
    assert resolve_any("vg0/home@latest", POINTS, gone)["seq"] == 3
    assert resolve_any("p0003", POINTS, gone) == POINTS[2]
    found = resolve_any("p0004", POINTS, gone)
    assert found["seq"] == 4
    assert found["note"] == f"{gone[0]['id']} is forgotten; it can be brought back until {until}."
    with pytest.raises(NotFoundError, match="no point's id begins with 'p0005'"):
        resolve_any("p0005", POINTS, gone)
    with pytest.raises(NotFoundError):
        resolve_any("latest:vg0/x", [], gone)
    with pytest.raises(UsageError):
        resolve_any("", POINTS, gone)
