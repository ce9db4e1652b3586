"""Replies → text for people, or lines with tabs for scripts. Pure.

Times are in the zone of the ``now`` handed in, and name it: ``Z`` for UTC, else its offset; one of
today goes without its date. Lines for scripts are UTC.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, cast

from blocksnapctl.times import local_iso, show
from blocksnapd.control.messages import parse_time
from blocksnapd.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, tzinfo

    from blocksnapd.control.messages import Event, Point, Problem, Run, Status, VolumeStatus

_COLOURS: Final = {
    "protected": "32", "seeding": "36", "failing": "33", "late": "31;1", "unprotected": "31;1",
    "success": "32", "warning": "33", "failed": "31;1", "error": "31", "critical": "31;1",
}  # fmt: skip
_TIME: Final = re.compile(r"\d{4}-(0\d|1[0-2])-\d\dT[\d:.]{12}Z")  # as messages write it
LOUD: Final = frozenset({"late", "failing", "unprotected"})
_STATUS_HEAD: Final = (
    "VOLUME", "STATE", "EXPOSURE / RPO", "LAST POINT", "NEXT", "LAST RUN", "COW", "POINTS",
)  # fmt: skip


def painted(word: str, name: str, *, colour: bool) -> str:
    """Return ``word`` in the colour of the state or severity ``name``."""
    code = _COLOURS.get(name)
    return f"\x1b[{code}m{word}\x1b[0m" if colour and code else word


def clean(value: object) -> str:
    """Return a text that cannot steer a terminal or break a line."""
    return "".join(c if c.isprintable() else "�" for c in str(value))


def plain(rows: Iterable[Sequence[object]]) -> str:
    """Return lines with tabs between the fields; None is an empty field."""
    return "".join("\t".join("" if v is None else clean(v) for v in row) + "\n" for row in rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines, the heading first."""
    cells = [[clean(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]


def short_time(text: str | None, now: datetime) -> str:
    """Return an instant as ``14:05:00Z`` if it is of today, else with its date."""
    return show(parse_time(text).astimezone(now.tzinfo), beside=now) if text else "never"


def status(found: Status, *, colour: bool, zone: tzinfo | None = UTC) -> str:
    """Return the page of ``blocksnapctl status``."""
    now, volumes = parse_time(found["now"]).astimezone(zone), found.get("volumes", [])
    lines = heading(found)
    if volumes:
        told = [(label, *_status_row(v, now)) for label, v in labelled(volumes).items()]
        head, *rows = table(_STATUS_HEAD, told)
        lines += ["", head]
        at = head.index("STATE")
        for row, volume in zip(rows, volumes, strict=True):
            word = loud(volume["state"])
            rest = row[at + len(word) :]
            lines.append(row[:at] + painted(word, volume["state"], colour=colour) + rest)
            lines += [f"  └ {cause(c)}" for c in volume.get("causes", [])]
            lines += [f"  └ {text}" for text in _paused(volume, now)]
    return "\n".join(lines) + "\n"


def heading(found: Status) -> list[str]:
    """Return what status says before the volumes: of the daemon, and of each target."""
    lines = [_headline(found, found.get("volumes", []))]
    for target in found.get("targets", []):
        up = {True: "up", False: "DOWN", None: "not tried yet"}[target.get("up")]
        free = target.get("free_bytes")
        room = f"  {format_size(free)} free" if free is not None else ""
        about = f"  {target['message']}" if target.get("message") else ""
        lines.append(clean(f"target {target['name']}  {target.get('url', '')}  {up}{room}{about}"))
    return lines


def labelled(volumes: Sequence[VolumeStatus]) -> dict[str, VolumeStatus]:
    """Return each entry by what it is called: a volume of several targets has one for each."""
    counts = Counter(v["volume"] for v in volumes)
    return {
        f"{v['volume']} → {v.get('target', '')}" if counts[v["volume"]] > 1 else v["volume"]: v
        for v in volumes
    }


def named(volumes: Sequence[VolumeStatus]) -> list[VolumeStatus]:
    """Return the entries with what they are called in the place of the volume's name."""
    found = labelled(volumes).items()
    return [cast("VolumeStatus", {**v, "volume": label}) for label, v in found]


def _paused(volume: VolumeStatus, now: datetime) -> list[str]:
    paused = volume.get("paused")
    if not paused:
        return []
    if "id" in paused:  # by who restores it; a cause tells of one that was not finished
        return [] if volume.get("causes") else [clean(paused.get("reason", ""))]
    until = f" until {short_time(paused['until'], now)}" if paused.get("until") else ""
    who = f" by {paused['who']}" if paused.get("who") else ""
    why = f": {paused['reason']}" if paused.get("reason") else ""
    since = short_time(paused.get("since"), now)
    again = f"blocksnapctl resume {volume['volume']}"
    return [clean(f"paused since {since}{until}{who}{why}. Go on with: {again}")]


def status_plain(found: Status) -> str:
    """Return volume, state, exposure, RPO (seconds), last point, next, points, size, target."""
    return plain(
        (
            v["volume"], v["state"], _rounded(v.get("exposure")), _rounded(v.get("rpo")),
            (v.get("last_point") or {}).get("time"), v.get("next_run"), v.get("points"),
            v.get("size"), v.get("target"),
        )
        for v in found.get("volumes", [])
    )  # fmt: skip


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def cause(problem: Problem) -> str:
    """Return what is wrong, what it means and what to do in one line."""
    parts = (problem.get("message"), problem.get("effect"), problem.get("hint"))
    text = "  ".join(p for p in parts if p)
    return clean(f"{text}  [{problem.get('code', '?')}]")


def points(found: Sequence[Point], now: datetime) -> str:
    """Return the table of points."""
    several = len({p["target"] for p in found if "target" in p}) > 1
    head = ["POINT", "VOLUME", "TIME", "SIZE", "CHANGED", "STORED", "HOW", "CONSISTENT", "TAGS"]
    rows = [
        [
            p["id"], p["volume"], short_time(p["time"], now), _bytes(p.get("size")),
            _bytes(p.get("changed_bytes")), _bytes(p.get("stored_bytes")),
            p.get("method", "-"), "SUSPECT" if p.get("suspect") else p.get("consistency", "-"),
            " ".join(p.get("tags", [])),
        ]
        for p in found
    ]  # fmt: skip
    if several:
        head.insert(2, "TARGET")
        for row, point in zip(rows, found, strict=True):
            row.insert(2, point["target"])
    if any("held" in p or "forgotten" in p for p in found):
        head.append("KEPT")
        for row, point in zip(rows, found, strict=True):
            row.append(kept(point, now))
    return "\n".join(table(head, rows)) + "\n" if rows else ""


def kept(point: Point, now: datetime) -> str:
    """Return whether a point is held or forgotten, and until when; ``-`` for neither."""
    if "forgotten" in point:
        return f"forgotten, back until {short_time(point['forgotten']['until'], now)}"
    if "held" not in point:
        return "-"
    held = point["held"]
    until = f" until {short_time(held['until'], now)}" if held["until"] else ""
    return f"held{until}: {held['reason']}" if held["reason"] else f"held{until}"


def points_plain(found: Sequence[Point]) -> str:
    """Return id, volume, time, size, changed, shipped, stored, method, tags, held, and so on.

    What follows is forgotten and target. Held and forgotten are empty, or until when; ``ever`` for
    a hold without end.
    """
    return plain(
        (
            p["id"], p["volume"], p["time"], p.get("size"), p.get("changed_bytes"),
            p.get("shipped_bytes"), p.get("stored_bytes"), p.get("method"),
            ",".join(p.get("tags", [])), p["held"]["until"] or "ever" if "held" in p else None,
            p["forgotten"]["until"] if "forgotten" in p else None, p.get("target"),
        )
        for p in found
    )  # fmt: skip


def runs(found: Sequence[Run], now: datetime, *, colour: bool) -> str:
    """Return the table of runs."""
    head = ("RUN", "KIND", "VOLUME", "STARTED", "RESULT", "TOOK", "CHANGED", "STORED", "POINT")
    rows = [
        (
            r["id"], r.get("kind", "-"), r.get("volume", "-"), short_time(_begin(r), now),
            r.get("result") or r.get("state", "-"), _seconds(r.get("duration")),
            _bytes(r.get("changed_bytes")), _bytes(r.get("stored_bytes")), r.get("point") or "-",
        )
        for r in found
    ]  # fmt: skip
    if not rows:
        return ""
    first, *lines = table(head, rows)
    at = first.index("RESULT")
    for index, row in enumerate(rows):
        line, word = lines[index], row[4]
        lines[index] = line[:at] + painted(word, word, colour=colour) + line[at + len(word) :]
    return "\n".join([first, *lines]) + "\n"


def runs_plain(found: Sequence[Run]) -> str:
    """Return id, kind, volume, state, result, started, ended, changed, stored, point, code."""
    return plain(
        (
            r["id"], r.get("kind"), r.get("volume"), r.get("state"), r.get("result"),
            r.get("started"), r.get("ended"), r.get("changed_bytes"), r.get("stored_bytes"),
            r.get("point"), (r.get("error") or {}).get("code"),
        )
        for r in found
    )  # fmt: skip


def event(found: Event, now: datetime, *, colour: bool) -> str:
    """Return one event as a line."""
    severity = found.get("severity", "info")
    text = " ".join(
        clean(part)
        for part in (found["seq"], short_time(found["time"], now), "{}", found.get("volume"),
                     found.get("type"), "-", found.get("message"))
        if part not in (None, "")
    )  # fmt: skip
    return text.replace("{}", painted(severity, severity, colour=colour), 1)


def event_plain(found: Event) -> str:
    """Return seq, time, severity, volume, type, message."""
    keys = ("seq", "time", "severity", "volume", "type", "message")
    return plain([[found.get(key) for key in keys]])


def progress(run: Run) -> str:
    """Return how far a run is, in one line: share, rate and what is left."""
    what = f"{run.get('volume') or 'all volumes'}  {run.get('phase') or run.get('state', '')}"
    done, expected = run.get("done_bytes", 0), run.get("expected_bytes", 0)
    if not expected:
        return clean(what)
    share = min(100, 100 * done // expected)
    if run.get("kind") == "prune":
        return clean(f"{what}  {done} of {expected} points")
    rate, eta = run.get("rate") or 0.0, run.get("eta")
    speed = f"  {format_size(rate)}/s" if rate else ""
    left = f"  ETA {format_duration(eta)}" if eta is not None else ""
    return clean(f"{what}  {format_size(done)} of {format_size(expected)}  {share}%{speed}{left}")


def run_ended(run: Run) -> str:
    """Return what became of a run."""
    shown = [f"{name} {format_duration(took)}" for name, took in run.get("phases", {}).items()]
    if run.get("suspend"):
        shown.append(f"writers held {format_duration(run['suspend'])}")
    arrow = f" → {run['target']}" if run.get("target") else ""
    took = f" in {format_duration(run.get('duration') or 0)}"
    lines = [
        f"run {run['id']}  {run.get('volume') or 'all volumes'}{arrow}  {run.get('result')}{took}"
    ]
    if shown:
        lines.append("  " + " · ".join(shown))
    if run.get("reason"):
        lines.append(f"  {run['reason']}")
    lines += [f"  warning: {text}" for text in run.get("warnings", [])]
    if run.get("kind") == "restore" and run.get("result") in {"success", "warning"}:
        kept = run.get("kept_bytes")
        before = f"; {format_size(kept)} of it were there from before" if kept else ""
        lines.append(f"restored {run.get('point', '')} to {run.get('to', '')}{before}")
    elif run.get("kind") == "copy":
        if run.get("result") in {"success", "warning"}:
            lines.append(f"copied out of {run.get('point', '')} to {run.get('to', '')}")
    elif run.get("kind") == "in-place":
        if run.get("result") in {"success", "warning"}:
            size = _bytes(run.get("changed_bytes"))
            lines.append(f"{run.get('volume', '')} is {run.get('point', '')} now; {size} written")
    elif run.get("point"):
        lines.append(
            f"point {run['point']}  {_bytes(run.get('changed_bytes'))} changed, "
            f"{_bytes(run.get('shipped_bytes'))} shipped, {_bytes(run.get('stored_bytes'))} stored"
        )
    return "\n".join(map(clean, lines)) + "\n"


def details(found: Mapping[str, Any], *, zone: tzinfo | None = UTC) -> str:
    """Return every field of a point or run, one a line; sizes and times for people too."""
    shown = [(key, _detail(key, value, zone)) for key, value in found.items() if key != "schema"]
    width = max((len(key) for key, _ in shown), default=0)
    return "".join(f"{key.ljust(width)}  {clean(text)}\n" for key, text in shown if text)


def _detail(key: str, value: object, zone: tzinfo | None) -> str:
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, dict):
        return "  ".join(
            f"{k}={_detail(k, v, zone)}" for k, v in value.items() if v not in (None, "", [])
        )
    if isinstance(value, str) and _TIME.fullmatch(value):
        with suppress(ValueError, OverflowError):
            return local_iso(value, zone)
    if isinstance(value, list):
        return " ".join(map(str, value))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and (key.endswith(("_bytes", "size")) or key == "size"):
        return f"{value} ({format_size(float(value))})"  # type: ignore[arg-type]
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _headline(found: Status, volumes: Sequence[VolumeStatus]) -> str:
    states = [v["state"] for v in volumes]
    counts = [
        f"{states.count(state)} {loud(state)}"
        for state in ("protected", "seeding", "failing", "late", "unprotected")
        if state in states
    ]
    up = format_duration(found.get("uptime", 0.0))
    count = f"{len(volumes)} volume{'' if len(volumes) == 1 else 's'}"
    about = f": {', '.join(counts)}" if counts else ""
    return clean(f"blocksnap {found['version']} on {found['host']} · up {up} · {count}{about}")


def loud(state: str) -> str:
    """Return the state, in capitals where somebody has to look."""
    return state.upper() if state in LOUD else state


def _status_row(volume: VolumeStatus, now: datetime) -> tuple[str, ...]:
    exposure, rpo = volume.get("exposure"), volume.get("rpo", 0.0)
    old = "never" if exposure is None else format_duration(exposure)
    last, cow = volume.get("last_point"), volume.get("cow")
    fill = f"{100 * cow['used'] / cow['size']:.0f}%" if cow and cow["size"] else "-"
    running = volume.get("active_run")
    return (
        loud(volume["state"]), f"{old} / {whole(rpo)}",
        short_time(last["time"] if last else None, now), _next(volume, now),
        active(running) if running else _last(volume.get("last_run")), fill,
        str(volume.get("points", "-")),
    )  # fmt: skip


def whole(seconds: float) -> str:
    """Return a configured duration as it was written: ``10m``, not ``10m00s``."""
    return re.sub(r"(?<=[mh])00[ms]$", "", format_duration(seconds))


def _next(volume: VolumeStatus, now: datetime) -> str:
    if volume.get("active_run"):
        return "now"
    if volume.get("paused"):
        return "paused"
    if not volume.get("next_run"):
        return "-"
    left = (parse_time(volume["next_run"] or "") - now).total_seconds()
    when = f"in {format_duration(left)}" if left > 0 else "now"
    return f"retry {volume['retry']} {when}" if volume.get("retry") else when


def active(run: Run) -> str:
    """Return how far a volume's run is, without the volume's name."""
    return progress({**run, "volume": "-"}).removeprefix("-").strip() or "running"


def _last(run: Run | None) -> str:
    if not run:
        return "-"
    if run.get("result") in {"success", "warning"}:
        return f"{_bytes(run.get('changed_bytes'))} in {format_duration(run.get('duration') or 0)}"
    return str(run.get("result") or "-")


def _begin(run: Run) -> str | None:
    return run.get("started") or run.get("queued")


def _bytes(size: int | None) -> str:
    return "-" if size is None else format_size(size)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)
