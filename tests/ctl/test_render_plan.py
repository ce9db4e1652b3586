"""Plans as text, to the letter."""

from __future__ import annotations

from blocksnapctl import render_plan
from blocksnapd.control.messages import format_time, parse_time
from tests.fakes.operations import NOW, plan

TODAY = parse_time(format_time(NOW))


def test_a_plan() -> None:
    assert render_plan.plan(plan()) == (
        "POINT              TIME                  KEEP?   WHY                     FREES\n"
        "p0003000000000000  2026-11-22 14:05:00Z  keep    all for 2h; newest\n"
        "p0002000000000000  2026-11-22 14:00:00Z  keep    1/h for 2d; tag manual\n"
        "p0001000000000000  2026-11-22 13:55:00Z  forget  -                       81.0 MiB\n"
        "vg0/home  3 points: keep 2, forget 1 (33 %), frees 81.0 MiB\n"
    )
    assert render_plan.plan(plan(points=[], keep=0, forget=0)) == (
        "vg0/home  0 points: keep 0, forget 0\n"
    )
    unknown = plan(frees_bytes=None, points=[{**plan()["points"][0], "frees_bytes": None}])
    assert render_plan.plan(unknown).splitlines()[1].endswith("forget  -")
    assert "frees" not in render_plan.plan(unknown)


def test_a_plan_for_scripts() -> None:
    assert render_plan.plan_plain(plan()).splitlines() == [
        "p0001000000000000\t2026-11-22T13:55:00.000Z\tforget\t\t84934656",
        "p0002000000000000\t2026-11-22T14:00:00.000Z\tkeep\t1/h for 2d; tag manual\t",
        "p0003000000000000\t2026-11-22T14:05:00.000Z\tkeep\tall for 2h; newest\t",
    ]


def test_who_refuses() -> None:
    assert render_plan.refused(plan(), "x", TODAY) == ""
    found = plan(refused=[{"name": "a", "text": "too many"}, {"name": "b", "text": "clock\x1b"}])
    assert render_plan.refused(found, "blocksnapctl prune --apply pl-1", TODAY) == (
        "refused: too many; clock�.  To go on:  blocksnapctl prune --apply pl-1   "
        "(expires in 15m00s)\n"
    )


def test_what_was_done() -> None:
    assert render_plan.applied(plan(applied=True)) == (
        "vg0/home  forgot 1 point, kept 2; until 2026-12-06 14:05Z they come back with: "
        "blocksnapctl undelete POINT\n"
    )
    assert render_plan.applied(plan(forget=0, keep=3)) == (
        "vg0/home  3 points: keep 3, forget 0 (0 %)\n"
    )
