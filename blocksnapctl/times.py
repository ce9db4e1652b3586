"""Times as operators write them → instants, and instants as operators read them. Pure.

    14:05  14:05:30                 of today
    today  yesterday  [14:05]       without a time of day: when the day began
    2026-11-22  [14:05[:30]]        the same; a T may stand between
    20261122T140530                 ISO 8601 without its marks
    90m ago   now

Behind a time of day or a date a zone may follow: ``Z``, ``UTC``, ``+01:00``, ``+0100``. Without
one it is the zone of whoever asks. A time that the clocks of that zone left out, or showed twice,
is refused: nobody can know what was meant. Whoever shows an instant names its zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from blocksnapd.control.messages import parse_time
from blocksnapd.errors import UsageError
from blocksnapd.units import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

    from blocksnapd.control.messages import Point

TEXT_LENGTH_MAX: Final = 100
NEAREST_MAX: Final = 2
_NOTHING: Final = "Nothing was done."
_FORMS: Final = (
    "Write a time like 14:05, yesterday 14:05, 2026-11-22, '2026-11-22 14:05', "
    "2026-11-22T14:05:00+01:00 or '90m ago'."
)
_TIME: Final = re.compile(
    r"""(?: (?P<day> today | yesterday | \d{4}-\d\d-\d\d | \d{8} ) (?: [T ] (?=\d) | (?=\D|$) ) )?
    (?: (?P<hour>\d\d?) : (?P<minute>\d\d) (?: : (?P<second>\d\d) (?: [.,] (?P<part>\d{1,6}) )? )?
      | (?P<basic>(?<=T) \d{4} (?:\d\d)? ) )?
    (?: [ ]? (?P<zone> Z | UTC | [+-]\d\d (?: :?\d\d )? ) )?""",
    re.VERBOSE | re.IGNORECASE,
)


class UnclearTimeError(UsageError):
    """A time that was left out, or came twice; ``around`` are the instants it is near."""

    def __init__(self, message: str, around: Sequence[datetime], *, hint: str) -> None:
        super().__init__(message, effect=_NOTHING, hint=hint)
        self.around = around


def read_time(text: str, now: datetime) -> datetime:
    """Return the instant that ``text`` names, in the zone of ``now``.

    Args:
        text: as the module tells.
        now: aware; its zone is that of whoever asks.

    Raises:
        UnclearTimeError: that zone's clocks showed it never, or twice.
        UsageError: it is no time.
    """
    plain = " ".join(text[: TEXT_LENGTH_MAX + 1].split())
    try:
        return _read(plain, now)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text[:TEXT_LENGTH_MAX]!r} is no time", effect=_NOTHING, hint=_FORMS
        ) from None


def _read(text: str, now: datetime) -> datetime:
    if text.lower() == "now":
        return now
    if ago := re.fullmatch(r"(.+) ago", text, re.IGNORECASE):
        moment = now.astimezone(UTC) - timedelta(seconds=parse_duration(ago[1]))
        return moment.astimezone(now.tzinfo)
    found = _TIME.fullmatch(text)
    if found is None or len(text) > TEXT_LENGTH_MAX or not (found["day"] or found["hour"]):
        raise ValueError(text)
    wall = _wall(found, now)
    if found["zone"]:
        return wall.replace(tzinfo=_zone(found["zone"])).astimezone(now.tzinfo)
    assert now.tzinfo is not None
    return _only(text, wall, now.tzinfo)


def _wall(found: re.Match[str], now: datetime) -> datetime:
    day = (found["day"] or "today").lower()
    if day in {"today", "yesterday"}:
        # Where a zone is named, the day is the one there.
        there = now.astimezone(_zone(found["zone"])) if found["zone"] else now
        date = there.date() - timedelta(days=day == "yesterday")
    else:
        date = datetime.strptime(day.replace("-", ""), "%Y%m%d").date()
    basic = found["basic"] or ""
    hour, minute = found["hour"] or basic[:2] or 0, found["minute"] or basic[2:4] or 0
    second = found["second"] or basic[4:] or 0
    micro = int((found["part"] or "0").ljust(6, "0"))
    return datetime(
        date.year, date.month, date.day, int(hour), int(minute), int(second), micro
    )  # fmt: skip


def _zone(text: str) -> tzinfo:
    if text.upper() in {"Z", "UTC"}:
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    if int(digits[2:]) > 59:
        raise ValueError(text)
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _only(text: str, wall: datetime, zone: tzinfo) -> datetime:
    """Return the one instant at which clocks of ``zone`` show ``wall``."""
    both = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = sorted({i for i in both if i.astimezone(zone).replace(tzinfo=None, fold=0) == wall})
    if len(shown) == 1:
        return shown[0].astimezone(zone)
    if shown:
        first, second = (i.astimezone(zone) for i in shown)
        raise UnclearTimeError(
            f"{text} came twice: {show(first)} and {show(second)}",
            shown,
            hint="Name the zone behind it, as shown here.",
        )
    before, after = (i.astimezone(zone) for i in sorted(both))
    raise UnclearTimeError(
        f"{text} never was: the clocks went from {_offset(before)} to {_offset(after)}",
        sorted(both),
        hint="Choose a time before or after that.",
    )


def show(moment: datetime, *, beside: datetime | None = None) -> str:
    """Return an instant in its own zone, which is named; of the day of ``beside`` without date."""
    is_same = beside is not None and beside.astimezone(moment.tzinfo).date() == moment.date()
    return moment.strftime("%H:%M:%S" if is_same else "%Y-%m-%d %H:%M:%S") + zone_mark(moment)


def zone_mark(moment: datetime) -> str:
    """Return what is put behind a time to name its zone: ``Z``, or a space and its offset."""
    return " " + _offset(moment) if moment.utcoffset() else "Z"


def local_iso(text: str, zone: tzinfo | None) -> str:
    """Return an instant of a message in ``zone``, in the form it has there."""
    moment = parse_time(text).astimezone(zone)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def understood(text: str, moment: datetime, found: datetime) -> str:
    """Return how a time was read, and how near to it the point is that was ``found``."""
    shown = show(found.astimezone(moment.tzinfo), beside=moment)
    seconds = (moment - found).total_seconds()
    gap = f", {format_duration(seconds)} before" if seconds else ": that very instant"
    return f"{text} read as {show(moment)}; the point is of {shown}{gap}."


def nearest(points: Iterable[Point], around: Sequence[datetime], zone: tzinfo | None) -> str:
    """Return the points nearest to these instants, on both sides, a line each; or nothing."""
    ordered = sorted(((parse_time(p["time"]), p["id"]) for p in points), key=lambda pair: pair[0])
    kept = set[tuple[datetime, str]]()
    for moment in around:
        kept.update([pair for pair in ordered if pair[0] <= moment][-NEAREST_MAX:])
        kept.update([pair for pair in ordered if pair[0] > moment][:NEAREST_MAX])
    lines = [f"{name}  {show(moment.astimezone(zone))}" for moment, name in sorted(kept)]
    return "\n".join(["The nearest points:", *lines]) if lines else ""


def _offset(moment: datetime) -> str:
    text = moment.strftime("%z")
    return f"{text[:3]}:{text[3:5]}"
