"""What speaks against forgetting points without asking: too many at once, clocks that jumped. Pure.

A guard never changes a plan. It stops whoever has nobody to ask; an operator who has seen the plan
may apply it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from blocksnapd.keep_rules import DAY_US, SECOND_US
from blocksnapd.store.point_format import from_us
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.maintain.retention import Candidate, Policy, Verdict

# Clocks of good hosts differ by less; a zone or a daylight change that went wrong is more.
SKEW_US_MAX = 15 * 60 * SECOND_US
# No new point for longer: nobody knows whether it is the source that stopped or a clock that ran.
IDLE_US_MAX = 7 * DAY_US
# Where points are rarer than that anyway, so many times their usual distance instead.
IDLE_GAPS = 4
RECENT_POINTS = 16
# After such a gap between points, so much of new history before anything is forgotten.
SETTLE_US = DAY_US


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks at hand: ours; the store's; ours as it was when the repository last changed."""

    now_us: int
    store_us: int | None = None
    last_us: int | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """One that speaks: a word for machines, a sentence's beginning for people."""

    name: str
    text: str


def guards(verdicts: Sequence[Verdict], policy: Policy, clocks: Clocks) -> list[Guard]:
    """Return which guards speak against what ``retention.decide`` gave; none when all is well.

    Where nothing would be forgotten no guard has anything to say.
    """
    forgotten = sum(not v.keep for v in verdicts)
    if not forgotten:
        return []
    points = [v.point for v in verdicts]
    idle_us_max = _idle_us_max(points)
    return [
        *_too_many(forgotten, len(verdicts), policy),
        *_clock_against_newest(points[-1], clocks.now_us, idle_us_max),
        *_clock_against_others(clocks),
        *_gap(points, idle_us_max),
    ]


def _idle_us_max(points: Sequence[Candidate]) -> int:
    gaps = sorted(
        newer.time_us - older.time_us
        for older, newer in pairwise(points[-RECENT_POINTS:])
        if newer.seq == older.seq + 1  # none was forgotten in between
    )
    usual = gaps[(len(gaps) - 1) // 2] if len(gaps) > 1 else 0
    return max(IDLE_US_MAX, IDLE_GAPS * usual)


def _too_many(forgotten: int, count: int, policy: Policy) -> list[Guard]:
    # A single point is never too many, or a volume with few of them would wait for ever.
    if forgotten < 2 or 100 * forgotten <= policy.max_delete_pct * count:
        return []
    text = (
        f"{forgotten} of {count} points ({100 * forgotten / count:.0f} %) would be forgotten, "
        f"more than max_delete_pct = {policy.max_delete_pct:g}"
    )
    return [Guard("max_delete_pct", text)]


def _clock_against_newest(newest: Candidate, now_us: int, idle_us_max: int) -> list[Guard]:
    ahead_us = newest.time_us - now_us
    made = f"the newest point is of {_moment(newest.time_us)}"
    if ahead_us > SKEW_US_MAX:
        return [Guard("future", f"{made}, {_span(ahead_us)} after the clock of this host")]
    if -ahead_us > idle_us_max:
        return [Guard("idle", f"{made}, {_span(-ahead_us)} ago: no new points, or a clock jumped")]
    return []


def _clock_against_others(clocks: Clocks) -> list[Guard]:
    found, now = [], _moment(clocks.now_us)
    if clocks.store_us is not None and abs(clocks.store_us - clocks.now_us) > SKEW_US_MAX:
        theirs = _moment(clocks.store_us)
        found.append(Guard("store-clock", f"here it is {now}, where the points are {theirs}"))
    if clocks.last_us is not None and clocks.last_us - clocks.now_us > SKEW_US_MAX:
        then = _moment(clocks.last_us)
        found.append(Guard("clock-back", f"it is {now}, but the repository was changed at {then}"))
    return found


def _gap(points: Sequence[Candidate], idle_us_max: int) -> list[Guard]:
    """Speak while the points after a long gap are few: a clock that ran ahead looks like that."""
    newest = points[-1]
    for older, newer in zip(reversed(points[:-1]), reversed(points[1:]), strict=True):
        if newest.time_us - newer.time_us >= SETTLE_US:
            return []
        is_whole = newer.seq == older.seq + 1  # otherwise it was pruning that made the gap
        if is_whole and newer.time_us - older.time_us > idle_us_max:
            text = (
                f"between the points of {_moment(older.time_us)} and {_moment(newer.time_us)} "
                f"{_span(newer.time_us - older.time_us)} passed: no points, or a clock jumped; "
                f"this ends {_span(SETTLE_US)} later"
            )
            return [Guard("gap", text)]
    return []


def _moment(time_us: int) -> str:
    return f"{from_us(time_us):%Y-%m-%d %H:%M:%S} UTC"


def _span(length_us: int) -> str:
    return format_duration(length_us / SECOND_US)
