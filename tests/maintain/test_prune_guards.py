"""Each guard speaks when it must, and is silent on a good day."""

from __future__ import annotations

import pytest

from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune_guards import Clocks, guards
from blocksnapd.maintain.retention import Candidate, Policy, Verdict, decide

MINUTE, HOUR, DAY = 60 * 10**6, 3600 * 10**6, 86400 * 10**6
NOW = 20_000 * DAY


def policy(**more) -> Policy:
    return Policy((parse_rule("all for 2h"),), **{"min_points": 1, "max_delete_pct": 100} | more)


def history(*ages_us: int) -> list[Candidate]:
    return [Candidate(n, f"p{n}", NOW - age) for n, age in enumerate(ages_us, 1)]


def spoken(points, what=None, clocks=None) -> list[str]:
    what, clocks = what or policy(), clocks or Clocks(NOW)
    return [g.name for g in guards(decide(points, what, clocks.now_us), what, clocks)]


GOOD = history(*range(5 * HOUR, -1, -5 * MINUTE))


def test_on_a_good_day_none_speaks():
    assert [v for v in decide(GOOD, policy(), NOW) if not v.keep]
    assert spoken(GOOD, clocks=Clocks(NOW, store_us=NOW + MINUTE, last_us=NOW - DAY)) == []


@pytest.mark.parametrize(("count", "speaks"), [(30, False), (31, True), (100, True)])
def test_a_run_forgets_no_more_than_its_share(count, speaks):
    points = [Candidate(n, f"p{n}", NOW) for n in range(100)]
    verdicts = [Verdict(p, () if p.seq < count else ("newest",)) for p in points]
    found = guards(verdicts, policy(max_delete_pct=30), Clocks(NOW))
    assert [g.name for g in found] == ["max_delete_pct"] * speaks
    if speaks:
        assert f"{count} of 100 points ({count} %)" in found[0].text
        assert "max_delete_pct = 30" in found[0].text


def test_a_single_point_is_never_too_many():
    points = history(3 * HOUR, HOUR)
    assert spoken(points, policy(max_delete_pct=0)) == []
    assert spoken(history(4 * HOUR, 3 * HOUR, HOUR), policy(max_delete_pct=0)) == ["max_delete_pct"]


def test_where_nothing_is_forgotten_nothing_is_said():
    assert spoken(history(HOUR, -30 * DAY)) == []
    assert spoken([]) == []


def test_a_newest_point_of_the_future():
    assert spoken(GOOD, clocks=Clocks(NOW - 14 * MINUTE)) == []
    assert spoken(GOOD, clocks=Clocks(NOW - 16 * MINUTE)) == ["future"]


def test_no_new_points_for_long():
    assert spoken(GOOD, clocks=Clocks(NOW + 6 * DAY)) == []
    assert spoken(GOOD, clocks=Clocks(NOW + 8 * DAY)) == ["idle"]


def test_rare_points_are_not_idle():
    rare = history(*range(200 * DAY, 19 * DAY, -20 * DAY))
    assert spoken(rare) == []
    assert spoken(rare, clocks=Clocks(NOW + 70 * DAY)) == ["idle"]


def test_other_clocks():
    assert spoken(GOOD, clocks=Clocks(NOW, store_us=NOW + HOUR)) == ["store-clock"]
    assert spoken(GOOD, clocks=Clocks(NOW, store_us=NOW - HOUR)) == ["store-clock"]
    assert spoken(GOOD, clocks=Clocks(NOW, last_us=NOW + HOUR)) == ["clock-back"]


def test_a_clock_that_ran_ahead_makes_points_after_a_gap():
    jumped = history(*(30 * DAY + age for age in range(5 * HOUR, -1, -5 * MINUTE)), 5 * MINUTE, 0)
    assert spoken(jumped) == ["gap"]
    settled = jumped + [Candidate(len(jumped) + n, f"s{n}", NOW + n * HOUR) for n in range(1, 25)]
    assert spoken(settled, clocks=Clocks(NOW + DAY)) == []


def test_a_gap_that_pruning_made_is_none():
    monthly = history(62 * DAY, 31 * DAY, HOUR, 5 * MINUTE, 0)
    thinned = [Candidate(p.seq * 9000, p.point_id, p.time_us) for p in monthly[:3]]
    thinned += [Candidate(27_000 + n, f"n{n}", p.time_us) for n, p in enumerate(monthly[3:], 1)]
    assert spoken(thinned) == []
    assert spoken(monthly) == ["gap"]
