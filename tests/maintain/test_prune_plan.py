"""A plan does what was shown or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blocksnapd.errors import RefusedError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune_plan import (
    VALID_US,
    Plan,
    check_plan,
    make_plan,
    summary,
    with_shares,
)
from blocksnapd.maintain.retention import Candidate, Policy, decide

HOUR = 3600 * 10**6
NOW = 20_000 * 24 * HOUR
POLICY = Policy((parse_rule("all for 2h"),), min_points=1)
POINTS = [Candidate(n, f"p{n}", NOW - (9 - n) * HOUR) for n in range(1, 10)]


def plan_of(points=POINTS, *, now=NOW, generation=7) -> Plan:
    return make_plan("vol-1", generation, decide(points, POLICY, now), [], POLICY, now)


def test_a_plan_tells_what_becomes_of_each_point():
    plan = plan_of()
    assert [p.seq for p in plan.forgotten] == [1, 2, 3, 4, 5, 6]
    assert [(p.point_id, p.reasons) for p in plan.kept] == [
        ("p7", ("all for 2h",)), ("p8", ("all for 2h",)), ("p9", ("all for 2h", "newest")),
    ]  # fmt: skip
    assert plan.expires_us - plan.created_us == VALID_US == 15 * 60 * 10**6
    assert summary(plan) == "9 points: keep 3, forget 6 (67 %)"
    assert summary(plan_of([])) == "0 points: keep 0, forget 0"


def test_its_id_goes_by_what_it_does():
    plan = plan_of()
    assert plan.plan_id.startswith("pl-")
    assert len(bytes.fromhex(plan.plan_id[3:])) == 4
    others = [plan_of(POINTS[1:]), plan_of(now=NOW + 1), plan_of(generation=8)]
    assert len({p.plan_id for p in (plan, plan_of(), *others)}) == 4


def test_what_it_frees_is_told_of_what_goes():
    plan = with_shares(plan_of(), {1: 100, 2: 5}, 250)
    assert [p.frees_bytes for p in plan.points] == [100, 5, 0, 0, 0, 0, None, None, None]
    assert plan.frees_bytes == 250


def test_new_points_do_not_matter():
    newer = [*POINTS, Candidate(10, "p10", NOW + 1)]
    check_plan(plan_of(), newer, NOW + VALID_US)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (POINTS[1:], "p1 is forgotten or gone"),
        (POINTS[:6] + POINTS[7:], "p7 is forgotten or gone"),
        ([replace(POINTS[0], point_id="other"), *POINTS[1:]], "p1 is forgotten or gone"),
        ([replace(POINTS[0], held="held: audit"), *POINTS[1:]], "p1 is held: audit"),
        ([*POINTS[:3], replace(POINTS[3], verified=True), *POINTS[4:]], "p4 is the last verified"),
        (POINTS[:6], "p6 is the newest"),
        ([], "and 4 more"),
    ],
)
def test_what_changed_is_told(points, said):
    with pytest.raises(RefusedError, match=said) as caught:
        check_plan(plan_of(), points, NOW)
    assert caught.value.effect == "Nothing was forgotten."
    assert "--dry-run" in caught.value.hint


@pytest.mark.parametrize("now", [NOW + VALID_US + 1, NOW - 1])
def test_it_expires(now):
    with pytest.raises(RefusedError, match="expired"):
        check_plan(plan_of(), POINTS, now)
