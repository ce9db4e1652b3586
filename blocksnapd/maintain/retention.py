"""Points and a policy → which are kept, and every reason for each. Pure.

A rule such as ``"1/h for 2d"`` cuts time into buckets aligned to UTC (weeks begin on Monday) and
keeps the first point of each. A bucket leaves a rule's span as a whole, never point by point. Both
together make the answer a matter of the points alone: whoever prunes every five minutes and
whoever prunes once a day keep the same ones, and a kept point is kept until its buckets aged out.

*First* goes by ``seq``, which only grows, not by the time a source claims: no later point can
take the place of a kept one, wherever its clock stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
# From Thursday, 1970-01-01 to the Monday after it.
WEEK_OFFSET_US = 4 * DAY_US
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# As spans these are the longest there are, so that nothing leaves earlier than was written.
_CALENDAR_SPANS_S = {"mo": 31 * 86_400, "y": 366 * 86_400}
_NUMPY_UNITS = {"mo": "datetime64[M]", "y": "datetime64[Y]"}
_COUNT_MAX = 86_400
_SPAN_S_MAX = 1000 * 366 * 86_400
_RULE = re.compile(r"(all|(\d{1,5})\s*/\s*(mo|[mhdwy]))\s+for\s+(ever|\S.*)")
_EXAMPLES = "write it like 'all for 2h', '1/h for 2d', '4/d for 2w', '1/mo for ever'"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``count`` buckets per ``unit``; count 0 keeps every point. span_us None: ever."""

    text: str
    count: int
    unit: str
    span_us: int | None

    @property
    def width_us(self) -> int:
        """Return the length of a bucket, 0 for the rule ``all``; of months and years the longest.

        It divides the unit evenly.
        """
        if not self.count:
            return 0
        return (_UNITS_S | _CALENDAR_SPANS_S)[self.unit] * SECOND_US // self.count

    def buckets(self, times_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the bucket that each time lies in; for ``all`` the times."""
        if not self.count:
            return times_us
        if self.unit in _NUMPY_UNITS:
            return times_us.astype("datetime64[us]").astype(_NUMPY_UNITS[self.unit]).view(np.int64)
        offset = WEEK_OFFSET_US if self.unit == "w" else 0
        found: NDArray[np.int64] = (times_us - offset) // self.width_us
        return found

    def kept(self, times_us: NDArray[np.int64], now_us: int) -> NDArray[np.bool_]:
        """Return which points this rule keeps; ``times_us`` in the order of ``seq``."""
        buckets = self.buckets(times_us)
        if self.count:
            is_first = np.zeros(len(times_us), dtype=np.bool_)
            is_first[np.unique(buckets, return_index=True)[1]] = True
        else:
            is_first = np.ones(len(times_us), dtype=np.bool_)
        if self.span_us is None:
            return is_first
        oldest = self.buckets(np.array([now_us - self.span_us], dtype=np.int64))
        found: NDArray[np.bool_] = is_first & (buckets >= oldest[0])
        return found


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator wants to keep.

    Attributes:
        rules: a point that any of them keeps is kept.
        keep_tags: patterns as in file names; a point with a tag that fits one is kept.
        min_points: so many of the newest are kept whatever their age, at least 1.
        max_delete_pct: no run on its own forgets a larger share of the points; 100: no limit.
        undelete_us: how long a forgotten point can be brought back.
    """

    rules: tuple[Rule, ...]
    keep_tags: tuple[str, ...] = ()
    min_points: int = 3
    max_delete_pct: float = 30.0
    undelete_us: int = 14 * DAY_US


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point that is not forgotten. ``held`` says why nobody may drop it; empty: anybody may.

    ``verified``: its content was read back and found whole.
    """

    seq: int
    point_id: str
    time_us: int
    tags: tuple[str, ...] = ()
    held: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a point: kept for these reasons; forgotten when there is none."""

    point: Candidate
    reasons: tuple[str, ...]

    @property
    def keep(self) -> bool:
        """Whether it is kept."""
        return bool(self.reasons)


def parse_rule(text: str) -> Rule:
    """Return the rule that ``text`` says.

    A rule is ``all for SPAN`` or ``N/UNIT for SPAN``, UNIT one of m, h, d, w, mo (month), y; SPAN a
    duration such as ``2h`` or ``26w``, ``N mo``, ``N y``, or ``ever``.

    Raises:
        ValueError: it is none; N buckets do not fill the unit evenly; no bucket fits the span.
    """
    found = _RULE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a rule; {_EXAMPLES}")
    count, unit = int(found[2] or 0), found[3] or ""
    if unit:
        _check_count(text, count, unit)
    rule = Rule(" ".join(text.split()), count, unit, _span_us(text, found[4]))
    if rule.span_us is not None and rule.span_us < rule.width_us:
        raise ValueError(f"{text!r} looks back less than one of its steps")
    return rule


def _check_count(text: str, count: int, unit: str) -> None:
    if unit in _CALENDAR_SPANS_S:
        if count != 1:
            raise ValueError(f"{text!r}: a month or a year is not divided; write 1/{unit}")
    elif not 1 <= count <= _COUNT_MAX or _UNITS_S[unit] % count:
        whole = [n for n in range(1, min(count, _UNITS_S[unit]) + 1) if _UNITS_S[unit] % n == 0]
        instead = whole[-1] if whole else 1
        raise ValueError(
            f"{text!r} does not divide its unit into whole seconds; write {instead}/{unit}"
        )


def _span_us(text: str, span: str) -> int | None:
    if span == "ever":
        return None
    calendar = re.fullmatch(r"(\d{1,4})\s*(mo|y)", span)
    try:
        seconds = (
            float(int(calendar[1]) * _CALENDAR_SPANS_S[calendar[2]])
            if calendar
            else parse_duration(span)
        )
    except ValueError:
        raise ValueError(f"{text!r} does not say for how long; {_EXAMPLES}") from None
    if not 0 < seconds <= _SPAN_S_MAX:
        raise ValueError(f"{text!r} is not for a time between nothing and 1000 years")
    return round(seconds * SECOND_US)


def decide(points: Sequence[Candidate], policy: Policy, now_us: int) -> list[Verdict]:
    """Return what becomes of each of ``points``, in the order of ``seq``.

    The newest is always kept, so are the last that was verified, what is held, and the newest
    ``min_points``.
    """
    ordered = sorted(points, key=lambda p: p.seq)
    times = np.array([p.time_us for p in ordered], dtype=np.int64)
    reasons: list[list[str]] = [[] for _ in ordered]
    for rule in policy.rules:
        for at in np.flatnonzero(rule.kept(times, now_us)).tolist():
            reasons[at].append(rule.text)
    for at, point in enumerate(ordered):
        reasons[at] += _own_reasons(point, policy.keep_tags)
    _always(ordered, reasons, policy.min_points)
    return [Verdict(p, tuple(r)) for p, r in zip(ordered, reasons, strict=True)]


def _own_reasons(point: Candidate, patterns: tuple[str, ...]) -> list[str]:
    found = [f"tag {t}" for t in point.tags if any(fnmatchcase(t, p) for p in patterns)]
    return [*found, point.held] if point.held else found


def _always(points: Sequence[Candidate], reasons: list[list[str]], min_points: int) -> None:
    """Add the reasons that no policy can take away."""
    verified = [at for at, p in enumerate(points) if p.verified]
    if verified:
        reasons[verified[-1]].append("last verified")
    if points:
        reasons[-1].append("newest")
    for found in reasons[-max(1, min_points) : -1]:
        found.append(f"newest {min_points}")
