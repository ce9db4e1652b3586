"""Plans of prunes → text for people, or lines with tabs for scripts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapctl.render import clean, plain, table
from blocksnapd.control.messages import parse_time
from blocksnapd.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from datetime import datetime

    from blocksnapd.control.messages import Plan, PlannedPoint


def plan(found: Plan) -> str:
    """Return the table of a plan, newest point first, and what it comes to."""
    lines = []
    if found["points"]:
        lines = table(("POINT", "TIME", "KEEP?", "WHY", "FREES"), _rows(found))
    return "\n".join([*lines, clean(f"{found['volume']}  {_sum(found)}")]) + "\n"


def plan_plain(found: Plan) -> str:
    """Return id, time, keep or forget, why, what it frees alone; one line a point, oldest first."""
    return plain(
        (p["id"], p["time"], _word(p), "; ".join(p["why"]), p["frees_bytes"])
        for p in found["points"]
    )  # fmt: skip


def refused(found: Plan, command: str, now: datetime) -> str:
    """Return which guards spoke, and how to go on all the same; empty when none did."""
    if not found["refused"]:
        return ""
    why = "; ".join(guard["text"] for guard in found["refused"])
    left = format_duration((parse_time(found["expires"]) - now).total_seconds())
    return clean(f"refused: {why}.  To go on:  {command}   (expires in {left})") + "\n"


def applied(found: Plan) -> str:
    """Return what was done."""
    if not found["forget"]:
        return clean(f"{found['volume']}  {_sum(found)}") + "\n"
    until = parse_time(found["undelete_until"])
    points = format_count(found["forget"], "point")
    return (
        clean(
            f"{found['volume']}  forgot {points}, kept {found['keep']}; until "
            f"{until:%Y-%m-%d %H:%MZ} they come back with: blocksnapctl undelete POINT"
        )
        + "\n"
    )


def _rows(found: Plan) -> list[tuple[str, ...]]:
    return [
        (
            p["id"], f"{parse_time(p['time']):%Y-%m-%d %H:%M:%SZ}", _word(p),
            "; ".join(p["why"]) or "-",
            format_size(p["frees_bytes"]) if p["frees_bytes"] is not None else "",
        )
        for p in reversed(found["points"])
    ]  # fmt: skip


def _word(point: PlannedPoint) -> str:
    return "keep" if point["keep"] else "forget"


def _sum(found: Plan) -> str:
    count, forgotten, frees = len(found["points"]), found["forget"], found["frees_bytes"]
    share = f" ({100 * forgotten / count:.0f} %)" if count else ""
    room = f", frees {format_size(frees)}" if frees is not None and forgotten else ""
    points = format_count(count, "point")
    return f"{points}: keep {found['keep']}, forget {forgotten}{share}{room}"
