"""Rules of retention: ``"1/h for 2d"`` → which of the points it keeps. Pure.

A rule cuts time into buckets aligned to UTC (weeks begin on Monday) and keeps the first point of
each. A bucket leaves the rule's span as a whole, never point by point. Both together make the
answer a matter of the points alone: whoever prunes every five minutes and whoever prunes once a
day keep the same ones, and a kept point is kept until its bucket aged out.

*First* goes by ``seq``, which only grows, not by the time a source claims: no later point can
take the place of a kept one, wherever its clock stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.units import parse_duration

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND_US = 1_000_000
DAY_S = 86_400.0
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
