"""A map of changes → a heat map for a terminal, or lines with tabs for scripts. Pure.

Down the regions of the volume, across its cycles, oldest left. How dark a cell is says how much of
the region changed; the steps are fixed, so that two maps can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blocksnapctl.render import clean, plain
from blocksnapctl.times import show
from blocksnapd.control.messages import parse_time
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# From which share of a region on a cell has this mark, and its colour.
_STEPS: Final = (
    (0.5, "█", "31;1"), (0.1, "▓", "31"), (0.01, "▒", "33"), (0.001, "░", "32"), (0.0, "·", "36"),
)  # fmt: skip
_FULL, _UNKNOWN = "┆", "?"
EDGE: Final = 12  # columns left of the cells


def heat(found: Mapping[str, Any], now: datetime, *, colour: bool) -> str:
    """Return the picture, with what it shows above it and what its marks mean below."""
    cycles, size = found["cycles"], found["region_size"]
    lines = [_headline(found, now), ""]
    for region in range(found["regions"]):
        label = format_size(region * size).rjust(EDGE - 2)
        cells = "".join(
            _cell(row[region] / size, cycle, colour=colour)
            for row, cycle in zip(found["matrix"], cycles, strict=True)
        )
        lines.append(f"{label} │{cells}".rstrip())
    lines += [" " * (EDGE - 1) + "└" + "─" * len(cycles), _axis(cycles, now), "", _legend(found)]
    return "\n".join(lines) + "\n"


def map_plain(found: Mapping[str, Any]) -> str:
    """Return instant, begin and end of a region (bytes), bytes changed; nothing for no change."""
    size = found["region_size"]
    return plain(
        (cycle["time"], region * size, min((region + 1) * size, found["size"]), changed)
        for cycle, row in zip(found["cycles"], found["matrix"], strict=True)
        for region, changed in enumerate(row)
        if changed
    )


def mark(share: float) -> tuple[str, str]:
    """Return the mark of a cell of which such a share changed, and its colour; blank for none."""
    if share <= 0:
        return " ", ""
    return next((sign, code) for least, sign, code in _STEPS if share >= least)


def _cell(share: float, cycle: Mapping[str, Any], *, colour: bool) -> str:
    sign, code = mark(share)
    if sign == " " and (cycle["full"] or cycle["unknown"]):
        return _FULL if cycle["full"] else _UNKNOWN
    return f"\x1b[{code}m{sign}\x1b[0m" if colour and code else sign


def _headline(found: Mapping[str, Any], now: datetime) -> str:
    cycles = found["cycles"]
    points = format_count(sum(c["points"] for c in cycles), "point")
    changed = format_size(sum(c["changed_bytes"] for c in cycles))
    span = f"{_when(cycles[0]['time'], now)} to {_when(cycles[-1]['time'], now)}"
    return clean(f"{found['volume']}  {format_size(found['size'])}  {points}, {span}: {changed}")


def _axis(cycles: list[Mapping[str, Any]], now: datetime) -> str:
    first, last = _when(cycles[0]["time"], now), _when(cycles[-1]["time"], now)
    room = len(cycles) - len(first) - len(last)
    if room < 2:
        return " " * EDGE + last.rjust(len(cycles))
    return " " * EDGE + first + " " * room + last


def _legend(found: Mapping[str, Any]) -> str:
    bounds = ["50 %", "10 %", "1 %", "0.1 %", "some"]
    steps = "  ".join(f"{sign} {text}" for (_, sign, _), text in zip(_STEPS, bounds, strict=True))
    per = max((c["points"] for c in found["cycles"]), default=1)
    across = format_count(per, "point")
    lines = [f"a row: {format_size(found['region_size'])}   a column: {across}   changed: {steps}"]
    if any(c["full"] for c in found["cycles"]):
        lines.append(f"{_FULL} everything was shipped afresh: what changed is not known")
    if any(c["unknown"] for c in found["cycles"]):
        lines.append(f"{_UNKNOWN} a point that cannot be read: what changed is not known")
    if found["left_out"]:
        lines.append(f"{format_count(found['left_out'], 'older point')} not shown (see --since)")
    return "\n".join(lines)


def _when(text: str, now: datetime) -> str:
    return show(parse_time(text).astimezone(now.tzinfo), beside=now)
