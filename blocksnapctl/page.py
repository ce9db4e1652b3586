"""One volume's page: everything about it in one HTML file that needs nothing else. Pure.

No script, no font, no picture from anywhere; light and dark by the reader's choice, black on white
on paper. Whatever comes from outside is escaped: names, tags and messages are anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Final

from blocksnapctl import charts
from blocksnapctl.charts import Clock, seconds_of
from blocksnapd.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

POINTS_SHOWN: Final = 200
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #62666d; --line: #d9dce1; --back: #fff;
  --one: #2f6fb3; --two: #8fb8dd; --bad: #c2352b; --tooth: #2f6fb333;
  --h1: #dcebf7; --h2: #a9cdea; --h3: #f3c66b; --h4: #e8833a; --h5: #c2352b; --h0: #f1f2f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e7e9; --soft: #9a9fa7; --line: #3b3f45;
  --back: #17191c; --one: #6aa9e6; --two: #3a5f85; --bad: #ef6a5f; --tooth: #6aa9e633;
  --h1: #223a50; --h2: #2f6590; --h3: #b08a2e; --h4: #d9712a; --h5: #f0574a; --h0: #212429; } }
@media print { :root { --ink: #000; --soft: #333; --back: #fff; --line: #bbb; color-scheme: light; }
  section { break-inside: avoid; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .2rem 0 .6rem; color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem;
  margin: 1rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); } .limit { stroke: var(--bad); stroke-dasharray: 5 4; }
.tooth { fill: var(--tooth); stroke: var(--one); } .tooth.late { stroke: var(--bad); }
.known { fill: none; stroke: var(--one); stroke-width: 2; }
.forecast { fill: none; stroke: var(--one); stroke-width: 2; stroke-dasharray: 2 4; }
.changed { fill: var(--two); } .stored { fill: var(--one); } .none { fill: var(--line); }
.h0 { fill: var(--h0); } .h1 { fill: var(--h1); } .h2 { fill: var(--h2); } .h3 { fill: var(--h3); }
.h4 { fill: var(--h4); } .h5 { fill: var(--h5); }
.say { white-space: nowrap; }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 .8rem;
  vertical-align: -1px; } .k0 { background: var(--two); } .k1 { background: var(--one); }
.c1 { background: var(--h1); } .c2 { background: var(--h2); } .c3 { background: var(--h3); }
.c4 { background: var(--h4); } .c5 { background: var(--h5); } .c0 { background: var(--line); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; } th { color: var(--soft); font-weight: 500; }
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a volume; empty where nobody could say.

    ``why_no_map`` says why there is no ``change_map``.
    """

    volume: str
    now: float
    status: Mapping[str, Any] = field(default_factory=dict)
    points: Sequence[Mapping[str, Any]] = ()
    change_map: Mapping[str, Any] | None = None
    why_no_map: str = ""
    drills: Sequence[Mapping[str, Any]] = ()
    checks: Sequence[Mapping[str, Any]] = ()


def page(found: Findings, clock: Clock) -> str:
    """Return the whole file."""
    points = [p for p in found.points if "forgotten" not in p]
    sections = [
        _summary(found, points, clock),
        *_of_points(found, clock),
        _cow(found, clock),
        _churn(found, clock),
        _checks(found, clock),
        _drills(found, clock),
        _points(found.points, clock),
    ]
    title = f"{found.volume}: restore points"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _key(kind: str, words: str) -> str:
    return f'<span class="say"><span class="key {kind}"></span>{escape(words)}</span>'


def _section(title: str, about: str, *parts: str) -> str:
    said = f"<p>{about}</p>" if about else ""
    return f"<section><h2>{escape(title)}</h2>{said}{''.join(parts)}</section>"


def _summary(found: Findings, points: Sequence[Mapping[str, Any]], clock: Clock) -> str:
    status, newest = found.status, points[-1] if points else None
    facts = {
        "State": status.get("state", "not known"),
        "Exposure": _duration(status.get("exposure")),
        "RPO": _duration(status.get("rpo")),
        "Newest point": clock.text(seconds_of(newest["time"])) if newest else "none",
        "Points": str(len(points)),
        "Size": format_size(newest["size"]) if newest else "not known",
        "Target": status.get("target") or (newest or {}).get("target", ""),
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
    )
    causes = "".join(f'<p class="bad">{escape(_cause(c))}</p>' for c in status.get("causes", []))
    made = f"<p>As of {escape(clock.exact(found.now))}; all times are of this zone.</p>"
    return f"<header><h1>{escape(found.volume)}</h1>{made}<dl>{cells}</dl>{causes}</header>"


def _cause(problem: Mapping[str, Any]) -> str:
    return " ".join(str(problem[key]) for key in ("message", "effect", "hint") if problem.get(key))


def _duration(seconds: float | None) -> str:
    return "not known" if seconds is None else format_duration(seconds)


def _of_points(found: Findings, clock: Clock) -> Iterable[str]:
    points = found.points
    if not points:
        yield _section("Exposure over time", "There is no point yet.")
        return
    rpo = found.status.get("rpo")
    promise = f" The dashed line is the RPO of {format_duration(rpo)}." if rpo else ""
    yield _section(
        "Exposure over time",
        "What a disaster would have cost at each instant: the age of the newest point, by the "
        f"points' own instants.{promise} Where points have expired nothing is drawn.",
        charts.exposure(points, rpo, found.now, clock),
    )
    yield _section(
        "Changed and stored",
        _key("k0", "changed on the volume") + " " + _key("k1", "stored in the repository"),
        charts.sizes(points, clock),
    )


def _cow(found: Findings, clock: Clock) -> str:
    status = found.status
    use, last = status.get("cow"), status.get("last_point")
    if not use or not last or not use.get("size"):
        return _section("COW fill", "There is no COW device, or nobody could say how full it is.")
    due = status.get("next_run")
    until = seconds_of(due) if due else found.now + float(status.get("every") or 3600.0)
    drawn, full = charts.cow(use, seconds_of(last["time"]), found.now, until, clock)
    share = use["used"] / use["size"]
    when = f"full at {escape(clock.text(full))} if nothing emptied it" if full else "not filling"
    return _section(
        "COW fill",
        f"{share:.1%} of {format_size(use['size'])} in use; at this rate {when}. The next run, at "
        f"{escape(clock.text(until))}, empties it.",
        drawn,
    )


def _churn(found: Findings, clock: Clock) -> str:
    title = "Where and when it changed"
    if found.change_map is None:
        return _section(title, escape(found.why_no_map))
    steps = ("some", "0.1 %", "1 %", "10 %", "50 %")
    keys = " ".join(_key(f"c{number}", name) for number, name in enumerate(steps, start=1))
    region = format_size(found.change_map["region_size"])
    about = f"Down: the volume, {region} a row. Across: time. Changed of a region: {keys}"
    about += " " + _key("c0", "not known")
    return _section(title, about, charts.churn(found.change_map, clock))


def _checks(found: Findings, clock: Clock) -> str:
    rows = [
        (clock.text(seconds_of(e["time"])), e["type"], e.get("severity", ""), e["message"])
        for e in found.checks
    ]
    title = "Verification"
    if not rows:
        return _section(title, "The event log tells of no verification of this volume.")
    return _section(title, "", _table(("When", "What", "Severity", "Said"), rows))


def _drills(found: Findings, clock: Clock) -> str:
    if not found.drills:
        return _section("Restore drills", "None was made in this time.")
    rows = [
        (
            clock.text(seconds_of(d["ended"])), d["point"], d["result"],
            "; ".join(
                f"{s['name']}: {s['result']}, {format_duration(s['seconds'])}" for s in d["steps"]
            ),
            "; ".join(line for s in d["steps"] for line in s["found"]),
        )
        for d in found.drills
    ]  # fmt: skip
    return _section(
        "Restore drills", "", _table(("When", "Point", "Result", "Steps", "Found"), rows)
    )


def _points(points: Sequence[Mapping[str, Any]], clock: Clock) -> str:
    shown = list(points)[-POINTS_SHOWN:][::-1]
    rows = [
        (
            clock.text(seconds_of(p["time"])), p["id"], p.get("method", ""),
            format_size(p["changed_bytes"]) if "changed_bytes" in p else "",
            format_size(p["stored_bytes"]) if "stored_bytes" in p else "",
            ", ".join([*_marks(p), *p.get("tags", [])]),
        )
        for p in shown
    ]  # fmt: skip
    about = f"{format_count(len(points), 'point')}, newest first"
    about += f"; the newest {POINTS_SHOWN} of them." if len(shown) < len(points) else "."
    return _section(
        "Points kept", about,
        _table(("When", "Point", "Method", "Changed", "Stored", "Marks"), rows),
    )  # fmt: skip


def _marks(point: Mapping[str, Any]) -> list[str]:
    held = point.get("held")
    why = f"held{': ' + held['reason'] if held.get('reason') else ''}" if held else ""
    marks = [why, "SUSPECT" if point.get("suspect") else "",
             "forgotten" if "forgotten" in point else ""]  # fmt: skip
    return [mark for mark in marks if mark]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )
