"""Drills → text for people, auditors among them, or lines with tabs for scripts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blocksnapctl.render import clean, plain, short_time, table
from blocksnapctl.times import show
from blocksnapd.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

_STEPS: Final = ("readable", "restored", "fsck", "check")
_HEAD: Final = (
    "DRILL", "ENDED", "VOLUME", "POINT", "OF", "RESULT", "READABLE", "RESTORED", "FSCK", "CHECK",
)  # fmt: skip


def drill(found: Mapping[str, Any], now: datetime) -> str:
    """Return one drill with all it found."""
    sizes = f"{format_size(found['size'])}, {format_size(found['content_bytes'])} of content"
    lines = [
        f"drill {found['id']}  {found['volume']}  {found['result']}",
        f"  point     {found['point']}, {short_time(found['point_time'], now)}, {sizes}",
    ]
    for step in found["steps"]:
        took = format_duration(step["seconds"])
        lines.append(f"  {step['name']:9} {step['result']}, {took}: {step['method']}")
        lines += [f"            {line}" for line in step["found"]]
    return "".join(f"{clean(line)}\n" for line in lines)


def report(
    found: Sequence[Mapping[str, Any]], undrilled: Sequence[str], since: datetime, now: datetime
) -> str:
    """Return the drills since an instant as a table, what they found, and what is missing."""
    counted = f"{format_count(len(found), 'drill')}, {sum(map(_is_bad, found))} failed"
    begin = show(since.astimezone(now.tzinfo))
    lines = [f"Restore drills from {begin} to {show(now)}: {counted}"]
    if found:
        lines += ["", *table(_HEAD, [_row(d, now) for d in found])]
    noted = [
        f"{d['id']} {step['name']}: {line}"
        for d in found
        for step in d["steps"]
        if step["result"] in {"warning", "failed"}
        for line in step["found"] or [step["result"]]
    ]
    if noted:
        lines += ["", "What they found:", *(f"  {clean(line)}" for line in noted)]
    methods = dict.fromkeys(
        f"{step['name']}: {step['method']}" for d in found for step in d["steps"]
    )
    if methods:
        lines += ["", "How it was done:", *(f"  {clean(line)}" for line in methods)]
    if undrilled:
        lines += ["", f"Not drilled in this time: {clean(', '.join(undrilled))}"]
    return "\n".join(lines) + "\n"


def report_plain(found: Sequence[Mapping[str, Any]]) -> str:
    """Return id, ended, volume, point, its time, result, size; each step's result and seconds."""
    return plain(
        [
            d["id"], d["ended"], d["volume"], d["point"], d["point_time"], d["result"], d["size"],
            *(value for name in _STEPS for value in _step(d, name)),
        ]
        for d in found
    )  # fmt: skip


def _is_bad(found: Mapping[str, Any]) -> bool:
    return bool(found["result"] == "failed")


def _row(found: Mapping[str, Any], now: datetime) -> list[str]:
    return [
        found["id"], short_time(found["ended"], now), found["volume"], found["point"],
        short_time(found["point_time"], now), found["result"],
        *(_shown(found, name) for name in _STEPS),
    ]  # fmt: skip


def _shown(found: Mapping[str, Any], name: str) -> str:
    result, seconds = _step(found, name)
    if result is None or seconds is None:
        return "-"
    took = format_duration(seconds)
    return took if result == "success" else f"{result} {took}"


def _step(found: Mapping[str, Any], name: str) -> tuple[str | None, float | None]:
    step = next((s for s in found["steps"] if s["name"] == name), None)
    return (step["result"], round(step["seconds"], 3)) if step else (None, None)
