"""How fast, how long, how often: the rules of traffic with a place that is not this host. Pure.

bandwidth    limits in bytes per second, each always or in windows of the week; the last one
             that holds counts. Windows are in the time of the host's own clock on the wall.
pacing       a piece is sent once those before it had their time at that rate
backoff      after the n-th failure a wait of 0 to FIRST * 2^(n-1) seconds, evenly drawn: of
             many hosts that lost one target, no two come back in step
patience     a call that moves nothing for the stall timeout is given up, plus what the bytes
             it was given may take at a crawl: some stores do not tell that they got on
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 24 * 60
STALL_S = 120.0
CRAWL = 32 << 10  # bytes per second
BACKOFF_FIRST_S = 0.5
BACKOFF_S_MAX = 10.0
RETRY_S_MAX = 45.0  # a cycle that fails then is tried again by the volume's own rhythm

_DAY = "|".join(DAYS)
_SPAN = re.compile(rf"({_DAY})(?:\.\.({_DAY}))?")
_TIMES = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """Some minutes of some days. ``days`` counts from Monday, 0.

    From minute ``start`` of a day up to ``end``; where that is not later, up to ``end`` of the day
    after: a night belongs to the day it begins on.
    """

    days: frozenset[int]
    start: int = 0
    end: int = DAY_MINUTES

    def holds(self, weekday: int, minute: int) -> bool:
        """Return whether that minute of that day lies inside."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        before = (weekday - 1) % len(DAYS)
        return (weekday in self.days and minute >= self.start) or (
            before in self.days and minute < self.end
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """So many bytes per second at most; ``when`` None: always."""

    rate: int
    when: Window | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the configuration says of the traffic with a target."""

    limits: tuple[Limit, ...] = ()
    stall_s: float = STALL_S

    def rate_at(self, weekday: int, minute: int) -> int | None:
        """Return the bytes per second allowed in that minute of that day; None: any."""
        for limit in reversed(self.limits):
            if limit.when is None or limit.when.holds(weekday, minute):
                return limit.rate
        return None


FREE_TRAFFIC = Traffic()


class Pacer:
    """Gives each piece its turn, so that no more than a rate is sent. One thread at a time."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def wait_s(self, size: int, rate: int, now: float) -> float:
        """Return for how long to wait before ``size`` bytes may go; they have their turn then.

        Args:
            size: of the piece.
            rate: bytes per second, as of now.
            now: seconds that never jump back.
        """
        start = max(now, self._free_at)
        self._free_at = start + size / rate
        return start - now


def backoff_s(failures: int, dice: float) -> float:
    """Return the wait after ``failures`` in a row (at least 1); ``dice`` is drawn from [0, 1)."""
    # The exponent is bounded before the power, so that no count can overflow it.
    return dice * min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))


def patience_s(stall_s: float, size: int) -> float:
    """Return for how long a call may show nothing that had ``size`` bytes to move."""
    return stall_s + size / CRAWL


def parse_window(text: str) -> Window:
    """Return what ``text`` says: ``Mon..Fri 08:00-18:00``, ``Sat,Sun`` or ``22:00-06:00``.

    Raises:
        ValueError: not such a text.
    """
    words = text.split()
    times = _TIMES.fullmatch(words[-1]) if words else None
    spans = [_SPAN.fullmatch(s) for s in words[0].split(",")] if len(words) > bool(times) else []
    is_whole = all(spans) and len(words) == bool(spans) + bool(times)
    if not is_whole or not words:
        raise ValueError(
            f"{text!r} is no time of the week; write it like 'Mon..Fri 08:00-18:00' or 'Sat,Sun'"
        )
    days = frozenset(day for span in spans if span for day in _days(span[1], span[2] or span[1]))
    start, end = (0, DAY_MINUTES) if times is None else (_minute(times, 1), _minute(times, 3))
    if start in (end, DAY_MINUTES):
        raise ValueError(f"{text!r} holds for no minute")
    return Window(days or frozenset(range(len(DAYS))), start, end)


def _days(first: str, last: str) -> list[int]:
    start = DAYS.index(first)
    count = (DAYS.index(last) - start) % len(DAYS) + 1
    return [(start + n) % len(DAYS) for n in range(count)]


def _minute(times: re.Match[str], group: int) -> int:
    hour, minute = int(times[group]), int(times[group + 1])
    if minute > 59 or 60 * hour + minute > DAY_MINUTES:
        raise ValueError(f"'{times[0]}' names no times of a day, which are 00:00 to 24:00")
    return 60 * hour + minute
