"""Rules, buckets, reasons; and that what is kept does not depend on who prunes how often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.retention import Candidate, Policy, decide

SECOND, MINUTE, HOUR, DAY = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6
NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
LADDER = ("all for 2h", "1/h for 2d", "4/d for 2w", "1/w for 26w")
CALENDAR = ("all for 1d", "1/mo for 12mo", "1/y for ever")


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def policy(*rules: str, **more) -> Policy:
    return Policy(tuple(map(parse_rule, rules)), **{"min_points": 1} | more)


def points_at(*moments: datetime, **more) -> list[Candidate]:
    return [Candidate(n, f"p{n}", us(m), **more) for n, m in enumerate(moments, 1)]


def kept(points, what, now=NOW) -> list[Candidate]:
    now_us = now if isinstance(now, int) else us(now)
    return [v.point for v in decide(points, what, now_us) if v.keep]


def seqs(points) -> list[int]:
    return [p.seq for p in points]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_first_of_each_aligned_bucket_is_kept():
    points = points_at(at("2026-11-22T11:59"), at("2026-11-22T12:01"), at("2026-11-22T12:59"),
                       at("2026-11-22T13:00"), at("2026-11-22T14:29"))  # fmt: skip
    assert seqs(kept(points, policy("1/h for 2d"))) == [1, 2, 4, 5]
    assert seqs(kept(points, policy("4/d for 2d"))) == [1, 2, 5]  # 06:00 to 12:00, 12:00 to 18:00


def test_weeks_begin_on_monday():
    points = points_at(at("2026-11-14T12:00"), at("2026-11-15T23:59"), at("2026-11-16T00:00"),
                       at("2026-11-20T00:00"), at("2026-11-22T14:00"))  # fmt: skip
    assert points[2].time_us == us(at("2026-11-16T00:00"))
    assert at("2026-11-16T00:00").weekday() == 0
    assert seqs(kept(points, policy("1/w for 4w"))) == [1, 3, 5]


def test_months_and_years_are_the_calendar_s():
    days = ("2024-02-29T12:00", "2024-12-31T23:59", "2025-01-01T00:00", "2026-10-31T23:59",
            "2026-11-01T00:00", "2026-11-22T14:00")  # fmt: skip
    points = points_at(*map(at, days))
    assert seqs(kept(points, policy("1/mo for ever"))) == [1, 2, 3, 4, 5, 6]
    assert seqs(kept(points, policy("1/y for ever"))) == [1, 3, 4, 6]
    assert seqs(kept(points, policy("1/y for 1y"))) == [3, 4, 6]


def test_a_bucket_leaves_as_a_whole():
    first, second = at("2026-11-20T14:05"), at("2026-11-20T14:55")
    points = points_at(first, second, NOW)
    # Half of the bucket is more than two days old: its first point stands for all of it.
    assert seqs(kept(points, policy("1/h for 2d"))) == [1, 3]
    assert seqs(kept(points, policy("1/h for 2d"), NOW + timedelta(minutes=30))) == [3]


def test_every_reason_is_told():
    points = points_at(at("2026-11-22T12:00"), at("2026-11-22T12:03"), at("2026-11-22T14:00"))
    points[0] = Candidate(1, "p1", points[0].time_us, ("release-7", "x"), "held: audit", True)
    verdicts = decide(
        points, policy("1/h for 2d", "1/d for 5w", keep_tags=("manual", "release-*")), us(NOW)
    )
    assert verdicts[0].reasons == (
        "1/h for 2d", "1/d for 5w", "tag release-7", "held: audit", "last verified",
    )  # fmt: skip
    assert verdicts[1].reasons == ()
    assert verdicts[2].reasons == ("1/h for 2d", "newest")


def test_only_the_last_verified_is_kept_for_that():
    points = points_at(*(at(f"2026-01-0{d}T00:00") for d in (1, 2, 3, 4)), verified=True)
    points[3] = Candidate(4, "p4", points[3].time_us)
    assert seqs(kept(points, policy("all for 2h"))) == [3, 4]


def test_so_many_of_the_newest_stay_whatever_their_age():
    points = points_at(*(at(f"2020-01-0{d}T00:00") for d in (1, 2, 3, 4, 5)))
    assert seqs(kept(points, policy("all for 2h", min_points=3))) == [3, 4, 5]
    assert seqs(kept(points, policy("all for 2h", min_points=9))) == [1, 2, 3, 4, 5]
    assert seqs(kept(points, policy("all for 2h"))) == [5]
    assert decide([], policy("all for 2h"), us(NOW)) == []


def test_no_later_point_takes_a_kept_one_s_place_wherever_its_clock_stands():
    points = points_at(at("2026-11-22T12:10"), at("2026-11-22T12:00"), at("2026-11-22T14:00"))
    assert seqs(kept(points, policy("1/h for 2d"))) == [1, 3]


def test_points_before_1970_and_in_the_future_have_buckets_too():
    points = points_at(at("1969-12-31T23:59"), at("1970-01-01T00:00"), at("2030-01-01T00:10"),
                       at("2030-01-01T00:20"), NOW)  # fmt: skip
    assert seqs(kept(points, policy("1/d for ever"))) == [1, 2, 3, 5]


def pruned_every(rhythm_us: int, history: list[Candidate], what: Policy, ends: list[int]):
    """Return the kept seqs at each of ``ends`` of one who prunes in this rhythm, and at the end."""
    known: list[Candidate] = []
    found, at, fed = [], history[0].time_us, 0
    for end in ends:
        while at < end:
            at = min(at + rhythm_us, end)
            while fed < len(history) and history[fed].time_us <= at:
                known.append(history[fed])
                fed += 1
            known = kept(known, what, at)
        found.append(seqs(known))
    return found


@pytest.mark.parametrize("rules", [LADDER, CALENDAR, ("7/w for 5w", "5/d for 3d", "12/h for 4h")])
def test_the_rhythm_of_pruning_makes_no_difference(rules):
    start = us(at("2026-09-18T03:07"))
    history = [
        Candidate(n + 1, f"p{n}", start + n * 5 * MINUTE + (n * 7919 % 61 - 30) * SECOND)
        for n in range(12 * 24 * 20)
        if n % 2881 > 40  # now and then nobody made points for hours
    ]
    what = policy(*rules, min_points=3)
    last = history[-1].time_us
    ends = [start + 6 * DAY, start + 9 * DAY + 5 * HOUR, last, last + 3 * DAY]
    hourly = pruned_every(HOUR, history, what, ends)
    assert hourly == pruned_every(DAY, history, what, ends)
    assert hourly == pruned_every(30 * DAY, history, what, ends)
    near = ends[1]
    recent = [p for p in history if p.time_us <= near]
    assert pruned_every(5 * MINUTE, recent[-800:], what, [near]) == [
        seqs(kept(recent[-800:], what, near))
    ]


rule_texts = st.lists(
    st.sampled_from([*LADDER, *CALENDAR, "5/d for 3d", "7/w for 5w", "all for 10d", "2/m for 1h"]),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
histories = st.lists(
    st.tuples(
        st.integers(-2 * HOUR, 9 * DAY),  # now and then a clock is set back
        st.sampled_from([(), ("manual",), ("other",)]),
        st.sampled_from(["", "", "", "held"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
).map(
    lambda rows: [
        Candidate(n + 1, f"p{n}", us(NOW) + sum(r[0] for r in rows[: n + 1]), tags, held, verified)
        for n, (_, tags, held, verified) in enumerate(rows)
    ]
)


@settings(max_examples=200, deadline=None)
@given(histories, rule_texts, st.integers(1, 5), st.integers(0, 60 * DAY), st.integers(0, 60 * DAY))
def test_whatever_happens_the_promises_hold(points, rules, min_points, first, more):
    what = policy(*rules, min_points=min_points, keep_tags=("man*",))
    now = points[-1].time_us + first
    once = kept(points, what, now)
    # Enough is left, and what nobody may take.
    assert len(once) >= min(min_points, len(points))
    assert once[-1] is points[-1]
    assert set(points[-min_points:]) <= set(once)
    assert {p for p in points if p.held or "manual" in p.tags} <= set(once)
    assert [p for p in points if p.verified][-1:] == [p for p in once if p.verified][-1:]
    # Again at the same instant: nothing more.
    assert kept(once, what, now) == once
    # Later, without new points: only fewer, and the same as for one who did not prune in between.
    later = kept(once, what, now + more)
    assert set(later) <= set(once)
    assert later == kept(points, what, now + more)


@settings(max_examples=200, deadline=None)
@given(histories, rule_texts, st.integers(0, 40))
def test_a_kept_point_is_kept_until_its_bucket_ages_out(points, rules, cut):
    what = policy(*rules)
    early = points[: max(1, min(cut, len(points)))]
    now = max(p.time_us for p in points)
    by_rule = {v.point.seq: [r for r in v.reasons if r in rules] for v in decide(early, what, now)}
    # At the same instant, with whatever newer points: none lost a rule that kept it.
    survivors = [p for p in early if by_rule[p.seq]]
    again = {v.point.seq: v.reasons for v in decide(survivors + points[len(early) :], what, now)}
    for seq, texts in by_rule.items():
        if texts:
            assert set(texts) <= set(again[seq])
