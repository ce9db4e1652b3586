"""The page of ``blocksnapctl top``: as much as a terminal holds, what is worst first. Pure."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from blocksnapctl import render
from blocksnapd.control.messages import parse_time
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from blocksnapd.control.messages import Event, Status, VolumeStatus

FOOT: Final = "q ends it · explain VOLUME says why and what to do"
_NAME_MAX: Final = 22
_BAR: Final = 10
_EVENTS_MIN: Final = 5  # lines that the last events keep however many volumes there are

_Line = tuple[str, str]  # its text, and the state if it is the line of a volume


def page(
    found: Status,
    events: Sequence[Event],
    *,
    columns: int,
    lines: int,
    colour: bool,
    zone: tzinfo | None = UTC,
) -> str:
    """Return ``lines`` lines of at most ``columns`` characters; ``events`` come oldest first."""
    now, volumes = parse_time(found["now"]).astimezone(zone), render.named(found["volumes"])
    volumes.sort(key=_worst)
    head: list[_Line] = [(line, "") for line in [*render.heading(found), ""]]
    told: list[_Line] = [(render.event(event, now, colour=False), "") for event in events]
    room = lines - len(head) - min(len(told), _EVENTS_MIN) - 2  # the foot, and a line before events
    width = max([len(v["volume"]) for v in volumes] + [0])
    rows = _fitting([_rows(v, min(width, _NAME_MAX)) for v in volumes], room)
    left = lines - len(head) - len(rows) - 2
    shown = [*head, *rows, ("", ""), *told[max(0, len(told) - left) :]]
    shown += [("", "")] * (lines - 1 - len(shown))
    whole = [*shown[: lines - 1], (FOOT, "")]
    return "".join(f"{_painted(text[:columns], s, colour=colour)}\n" for text, s in whole)


def _worst(volume: VolumeStatus) -> tuple[bool, float]:
    return volume["state"] not in render.LOUD, -_share_of_rpo(volume)


def _share_of_rpo(volume: VolumeStatus) -> float:
    exposure, rpo = volume.get("exposure"), volume.get("rpo") or 1.0
    return 9.0 if exposure is None else exposure / rpo


def _fitting(blocks: Sequence[list[_Line]], room: int) -> list[_Line]:
    """Return the lines of as many blocks as there is room for, and how many more there are."""
    rows: list[_Line] = []
    for index, block in enumerate(blocks):
        is_last = index == len(blocks) - 1
        if len(rows) + len(block) + (not is_last) > room:
            return [*rows, (f"… and {len(blocks) - index} more: blocksnapctl status", "")]
        rows += block
    return rows


def _rows(volume: VolumeStatus, width: int) -> list[_Line]:
    """Return the line of a volume, and one more of its run under way or what is wrong."""
    name, exposure = render.clean(volume["volume"]), volume.get("exposure")
    name = name if len(name) <= width else f"…{name[1 - width :]}"
    old = "never" if exposure is None else format_duration(exposure)
    promise = f"{old} / {render.whole(volume.get('rpo', 0.0))}"
    state, bar = render.loud(volume["state"]), _bar(_share_of_rpo(volume))
    line = f"{name:{width}}  {state:11}  {bar} {promise:14}  {_cow(volume)}"
    rows: list[_Line] = [(line, volume["state"])]
    if run := volume.get("active_run"):
        rows.append((f"  ▸ {render.active(run)}", ""))
    if causes := volume.get("causes"):
        rows.append((f"  └ {render.cause(causes[0])}", ""))
    return rows


def _bar(share: float) -> str:
    full = min(_BAR, max(0, round(share * _BAR)))
    return "█" * full + "░" * (_BAR - full)


def _cow(volume: VolumeStatus) -> str:
    cow = volume.get("cow")
    if not cow or not cow["size"]:
        return ""
    share, left = 100 * cow["used"] / cow["size"], cow.get("full_in")
    when = f", full in {format_duration(left)}" if left is not None else ""
    return "COW lost" if cow.get("is_lost") else f"COW {share:.0f}%{when}"


def _painted(line: str, state: str, *, colour: bool) -> str:
    """Return a line with the state of its volume, if it is the line of one, in colour."""
    word = render.loud(state)
    before, gap, after = line.partition(f"  {word} ") if state else (line, "", "")
    return f"{before}  {render.painted(word, state, colour=colour)} {after}" if gap else line
