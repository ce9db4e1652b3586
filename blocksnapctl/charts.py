"""The charts of a volume's page: its points, its map, its COW device → SVG. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from blocksnapctl import svg
from blocksnapctl.render_map import mark
from blocksnapctl.times import show
from blocksnapd.control.messages import parse_time
from blocksnapd.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

_HEAT: Final = {"█": "h5", "▓": "h4", "▒": "h3", "░": "h2", "·": "h1", " ": "h0"}
_BARS_MAX: Final = 120
# Tops of an axis of time, so that its quarters are round: 4 minutes to 16 weeks.
_TOPS_S: Final = tuple(
    4 * seconds
    for seconds in (60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800,
                    345600, 604800, 2419200)
)  # fmt: skip


class Clock:
    """Instants as seconds, and as people read them in one zone."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone

    def text(self, seconds: float) -> str:
        """Return an instant for an axis or a table; whole minutes, the zone is told elsewhere."""
        return self.exact(seconds)[:16]

    def exact(self, seconds: float) -> str:
        """Return an instant with its zone."""
        return show(datetime.fromtimestamp(seconds, UTC).astimezone(self._zone))


def seconds_of(message: str) -> float:
    """Return an instant of a message as seconds since the epoch."""
    return parse_time(message).timestamp()


def exposure(
    points: Sequence[Mapping[str, Any]], rpo: float | None, now: float, clock: Clock
) -> str:
    """Return how old the newest point was at each instant, against what was promised.

    Between two points that did not follow each other others have expired: what they were is not
    known any more, and nothing is drawn.
    """
    times = [(seconds_of(p["time"]), p["seq"]) for p in points]
    ends = [*times[1:], (max(now, times[-1][0]), times[-1][1] + 1)]
    teeth = [
        (begin, end)
        for (begin, seq), (end, following) in zip(times, ends, strict=True)
        if following == seq + 1
    ]
    highest = max([end - begin for begin, end in teeth] + [(rpo or 0.0) * 1.1])
    top = next((top for top in _TOPS_S if top >= highest), highest)
    frame = svg.Frame(times[0][0], max(now, times[-1][0]), top)
    parts = [frame.axes(clock.text, lambda s: format_duration(s) if s else "0")]
    for begin, end in teeth:
        is_late = rpo is not None and end - begin > rpo
        shape = [(begin, 0.0), (end, end - begin), (end, 0.0)]
        kind = "tooth late" if is_late else "tooth"
        parts.append(svg.path([(frame.x(x), frame.y(y)) for x, y in shape], kind))
    if rpo is not None:
        parts.append(svg.line(svg.LEFT, frame.y(rpo), svg.WIDTH - svg.RIGHT, frame.y(rpo), "limit"))
    return svg.drawing(frame.height, "Exposure over time", parts)


def sizes(points: Sequence[Mapping[str, Any]], clock: Clock) -> str:
    """Return bars of what changed and what it took to keep it; several points may share a bar."""
    share = -(-len(points) // _BARS_MAX)
    groups = [points[at : at + share] for at in range(0, len(points), share)]
    totals = [
        (sum(p.get("changed_bytes", 0) for p in g), sum(p.get("stored_bytes", 0) for p in g))
        for g in groups
    ]
    highest = max(max(pair) for pair in totals)
    frame = svg.Frame(0, len(groups), 1 << max(12, highest.bit_length()))
    width = (frame.x(1) - frame.x(0)) * 0.42
    parts = [frame.axes(lambda at: _group_time(groups, at, clock), format_size)]
    for number, ((changed, stored), group) in enumerate(zip(totals, groups, strict=True)):
        when = clock.text(seconds_of(group[-1]["time"]))
        for place, size, kind in ((0.06, changed, "changed"), (0.5, stored, "stored")):
            about = f"{when}: {format_size(size)} {kind}"
            top, bottom = frame.y(size), frame.y(0)
            parts.append(svg.box(frame.x(number + place), top, width, bottom - top, kind, about))
    return svg.drawing(frame.height, "Changed and stored bytes per point", parts)


def _group_time(groups: Sequence[Sequence[Mapping[str, Any]]], at: float, clock: Clock) -> str:
    return clock.text(seconds_of(groups[min(int(at), len(groups) - 1)][-1]["time"]))


def cow(
    use: Mapping[str, Any], since: float, now: float, until: float, clock: Clock
) -> tuple[str, float | None]:
    """Return the fill of the COW device since the last point, with its forecast up to ``until``.

    And the instant at which it is full at this rate; None: never. A COW device is empty when its
    snapshot is taken, so two places give the line.
    """
    size, used = use["size"], use["used"]
    rate = used / (now - since) if now > since else 0.0
    full = since + size / rate if rate > 0 else None
    end = max(until, now + 0.1 * (now - since))
    frame = svg.Frame(since, end, size)
    at = end if full is None else min(end, max(now, full))  # beyond, it is full
    then = min(size, rate * (at - since))
    parts = [
        frame.axes(clock.text, format_size),
        svg.path([(frame.x(since), frame.y(0)), (frame.x(now), frame.y(used))], "known"),
        svg.path([(frame.x(now), frame.y(used)), (frame.x(at), frame.y(then))], "forecast"),
        svg.line(svg.LEFT, frame.y(size), svg.WIDTH - svg.RIGHT, frame.y(size), "limit"),
    ]
    return svg.drawing(frame.height, "COW fill and its forecast", parts), full


def churn(found: Mapping[str, Any], clock: Clock) -> str:
    """Return the map of changes: regions from the top, cycles from the left."""
    regions, cycles = found["regions"], found["cycles"]
    height = 8 * regions + svg.TOP + svg.BOTTOM
    frame = svg.Frame(0, len(cycles), regions, height)
    width = frame.x(1) - frame.x(0)
    last = clock.text(seconds_of(cycles[-1]["time"]))
    parts = [
        svg.text(svg.LEFT - 6, svg.TOP + 10, "0 B", "end"),
        svg.text(svg.LEFT - 6, height - svg.BOTTOM, format_size(found["size"]), "end"),
        svg.text(svg.LEFT, height - 6, clock.text(seconds_of(cycles[0]["time"]))),
        svg.text(svg.WIDTH - svg.RIGHT, height - 6, last, "end"),
    ]
    for at, (cycle, row) in enumerate(zip(cycles, found["matrix"], strict=True)):
        when = clock.text(seconds_of(cycle["time"]))
        unknown = cycle["full"] or cycle["unknown"]
        parts.append(
            svg.box(frame.x(at), svg.TOP, width, 8 * regions, "none" if unknown else "h0", when)
        )
        for region, changed in enumerate(row):
            if changed:
                place = format_size(region * found["region_size"])
                kind = _HEAT[mark(changed / found["region_size"])[0]]
                about = f"{when}, from {place}: {format_size(changed)}"
                top = svg.TOP + 8 * region
                parts.append(svg.box(frame.x(at), top, width, 8, kind, about))
    return svg.drawing(height, "Where and when the volume changed", parts)
