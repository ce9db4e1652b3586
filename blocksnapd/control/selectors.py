"""Which point does an operator mean? A text and the points there are → one of them. Pure.

    p51d9a0               the start of a point's id
    latest:vg0/home       the newest point of a volume; vg0/home@latest is the same
    vg0/home@TIME         the newest point not after TIME
    …#TARGET              the same of one target alone, where a volume has several

TIME is ISO 8601, ``2026-11-22T14:05`` or with seconds, with a space for the ``T``, with a zone
or without; without one it is UTC, and the answer's ``note`` says so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blocksnapd.control.messages import parse_time
from blocksnapd.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.control.messages import Point

SELECTOR_LENGTH_MAX = 4096
CANDIDATES_SHOWN_MAX = 5
_NOTHING = "Nothing was done."
_LIST_HINT = "List the points with: blocksnapctl points"
_TIME_HINT = "Write the time like vg0/home@2026-11-22T14:05 (UTC) or …T14:05+01:00."


def resolve(selector: str, points: Sequence[Point]) -> Point:
    """Return the point that ``selector`` names, with a ``note`` where it had to be interpreted.

    Raises:
        UsageError: it is no selector, or fits several points. NotFoundError: it fits none.
    """
    if not selector or len(selector) > SELECTOR_LENGTH_MAX:
        raise UsageError(
            "an empty or endless text names no point", effect=_NOTHING, hint=_LIST_HINT
        )
    selector, points = _at_target(selector, points)
    if selector.startswith("latest:"):
        return _newest(selector.removeprefix("latest:"), points)
    volume, at, moment = selector.rpartition("@")
    if not at:
        return _by_prefix(selector, points)
    if moment == "latest":
        return _newest(volume, points)
    return _not_after(volume, moment, points)


def resolve_any(selector: str, kept: Sequence[Point], forgotten: Sequence[Point]) -> Point:
    """Return the point that ``selector`` names; one that is forgotten by its id only.

    Its ``note`` then says so. Raises as ``resolve``.
    """
    try:
        return resolve(selector, kept)
    except NotFoundError:
        is_id = selector and "@" not in selector and not selector.startswith("latest:")
        if not is_id or not any(p["id"].startswith(selector) for p in forgotten):
            raise
    found = _by_prefix(selector, forgotten)
    until = found["forgotten"]["until"]
    return {**found, "note": f"{found['id']} is forgotten; it can be brought back until {until}."}


def _at_target(selector: str, points: Sequence[Point]) -> tuple[str, Sequence[Point]]:
    rest, mark, target = selector.rpartition("#")
    there = [p for p in points if p.get("target") == target]
    return (rest, there) if mark and there else (selector, points)


def _of(volume: str, points: Sequence[Point]) -> list[Point]:
    found = sorted((p for p in points if p["volume"] == volume), key=lambda p: p["seq"])
    if not found:
        known = sorted({p["volume"] for p in points})
        raise NotFoundError(
            f"there is no point of a volume {volume!r}",
            effect=_NOTHING,
            hint=f"Volumes with points: {', '.join(known[:20]) or 'none'}.",
        )
    return found


def _newest(volume: str, points: Sequence[Point]) -> Point:
    newest = {p.get("target"): p for p in _of(volume, points)}
    return max(newest.values(), key=lambda p: parse_time(p["time"]))


def _by_prefix(prefix: str, points: Sequence[Point]) -> Point:
    exact = [p for p in points if p["id"] == prefix]
    found = exact or [p for p in points if p["id"].startswith(prefix)]
    if not found:
        raise NotFoundError(
            f"no point's id begins with {prefix!r}", effect=_NOTHING, hint=_LIST_HINT
        )
    if len(found) > 1:
        shown = ", ".join(p["id"] for p in found[:CANDIDATES_SHOWN_MAX])
        more = ", …" if len(found) > CANDIDATES_SHOWN_MAX else ""
        raise UsageError(
            f"{prefix!r} begins the ids of {len(found)} points: {shown}{more}",
            effect=_NOTHING,
            hint="Give more of the id.",
        )
    return found[0]


def _not_after(volume: str, text: str, points: Sequence[Point]) -> Point:
    moment, note = _moment(text)
    candidates = _of(volume, points)
    found = [p for p in candidates if parse_time(p["time"]) <= moment]
    if not found:
        raise NotFoundError(
            f"{volume} has no point as old as {moment:%Y-%m-%d %H:%M:%S} UTC",
            effect=_NOTHING,
            hint=f"Its oldest is {candidates[0]['id']} of {candidates[0]['time']}.",
        )
    best = max(found, key=lambda p: (parse_time(p["time"]), p["seq"]))
    return {**best, "note": note} if note else best


def _moment(text: str) -> tuple[datetime, str]:
    has_time = re.match(r"\d{4}-?\d\d-?\d\d[T ]\d\d", text)
    try:
        moment = datetime.fromisoformat(text) if has_time else None
    except ValueError:
        moment = None
    if moment is None:
        raise UsageError(f"{text!r} is not a date with a time", effect=_NOTHING, hint=_TIME_HINT)
    if moment.tzinfo is not None:
        return moment.astimezone(UTC), ""
    return moment.replace(tzinfo=UTC), f"No time zone was given: {text} was read as UTC."
