"""The verb ``explain``: why a volume, run or point is as it is, or what a code means. Edge."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from blocksnapctl import explanations
from blocksnapctl.client import ProblemError
from blocksnapctl.render import cause, clean, labelled, loud, short_time
from blocksnapctl.zone import LocalZone
from blocksnapd.control.messages import EXIT_OK, SCHEMA, parse_time
from blocksnapd.errors import NotFoundError
from blocksnapd.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapctl.commands import Context
    from blocksnapd.control.messages import Point, Problem, Run, Status, VolumeStatus

Lines = list[tuple[str, str]]  # a word and what there is to say of it
_HINT = "Name a configured volume, a run, a point, a state such as 'late', or a code: explain --all"


def explain(context: Context) -> int:
    """Explain a word, or a volume, run or point that the daemon knows."""
    words = explanations.words() if context.arguments.all else context.arguments.items
    if not words:
        volumes = context.daemon.get("status")["volumes"]
        words = list(dict.fromkeys(v["volume"] for v in volumes))
    for number, word in enumerate(words):
        if number and not (context.output.as_json or context.output.as_plain):
            context.output.data("\n")
        _explain(context, word)
    return EXIT_OK


def _explain(context: Context, word: str) -> None:
    known = explanations.find(word)
    if known:
        _tell(context, word, clean(word), _of_word(known))
        return
    for number, (head, lines) in enumerate(_of_thing(context, word)):
        if number and not (context.output.as_json or context.output.as_plain):
            context.output.data("\n")
        _tell(context, word, head, lines)


def _tell(context: Context, word: str, head: str, lines: Lines) -> None:
    out = context.output
    if out.as_json:
        said = [{"about": key, "text": text} for key, text in lines]
        out.document({"schema": SCHEMA, "item": word, "head": head, "lines": said})
    elif out.as_plain:
        out.data("".join(f"{word}\t{key}\t{clean(text)}\n" for key, text in lines))
    else:
        out.data("\n".join([head, *(f"  {key.ljust(7)} {clean(text)}" for key, text in lines)]))


def _of_word(known: explanations.Explanation) -> Lines:
    return [("cause", known.cause), ("effect", known.effect), ("do", known.do)]


def _of_thing(context: Context, word: str) -> list[tuple[str, Lines]]:
    """Return what there is to say of a volume, for each of its targets, or of a run or point."""
    found = cast("Status", context.daemon.get("status"))
    volumes = labelled(found["volumes"]).items()
    told = [of_volume(v, found["now"], label) for label, v in volumes if v["volume"] == word]
    if told:
        return told
    for path, tell in (("runs", _of_run), ("points", _of_point)):
        try:
            return [tell(cast("Any", context.daemon.get(path, word)))]
        except ProblemError as error:
            if error.problem.get("code") != NotFoundError.code:
                raise
    raise NotFoundError(f"nothing here is called {word!r}", effect="Nothing was done.", hint=_HINT)


def of_volume(volume: VolumeStatus, now: str, label: str = "") -> tuple[str, Lines]:
    """Return a sentence about a volume, and what it comes from, costs, and what follows.

    ``label`` is what it is called, with its target if it has several.
    """
    name, exposure, rpo = label or volume["volume"], volume.get("exposure"), volume.get("rpo", 0.0)
    paused = volume.get("paused")
    word = "paused" if paused else volume["state"]
    if exposure is None:
        head = f"{name} is {loud(word)}: there is no point of it."
    else:
        age = format_duration(exposure)
        head = f"{name} is {loud(word)}: its newest point is {age} old, the RPO is "
        head += f"{format_duration(rpo)}."
    means, causes = explanations.STATES.get(word), volume.get("causes", [])
    lines: Lines = [("cause", cause(c)) for c in causes]
    if not causes and means:
        lines.append(("cause", str((paused or {}).get("reason") or means.cause)))
    lines += [("effect", text) for text in _effects(volume, now)]
    lines += [("next", text) for text in _next(volume, now)]
    lines += [("do", text) for text in _advice(causes, means)]
    if advice := (volume.get("cow") or {}).get("advice"):
        lines.append(("do", advice))
    codes = "  ".join(dict.fromkeys(c["code"] for c in causes if "code" in c))
    return clean(head), [*lines, ("docs", f"blocksnap-explain(7)  {codes}".strip())]


def _effects(volume: VolumeStatus, now: str) -> Iterator[str]:
    zone, last = LocalZone(), volume.get("last_point")
    if last is None:
        yield "A disaster now would cost the whole volume."
    else:
        since = short_time(last["time"], parse_time(now).astimezone(zone))
        lost = format_duration(volume.get("exposure") or 0.0)
        yield f"Changes since {since}, the last {lost}, exist only on this host."
    rpo, exposure = volume.get("rpo", 0.0), volume.get("exposure")
    if exposure is not None and volume["state"] == "failing" and exposure < rpo:
        yield f"It will be late in {format_duration(rpo - exposure)} if nothing changes."
    cow = volume.get("cow")
    if cow and cow["size"]:
        share, room = 100 * cow["used"] / cow["size"], format_size(cow["size"] - cow["used"])
        yield f"The COW space of its snapshot is {share:.0f}% full; {room} more can change."
        if cow.get("is_lost"):
            yield "The kernel gave that snapshot up: the next run compares the whole volume."
        elif (full_in := cow.get("full_in")) is not None:
            rate, left = format_size(cow.get("rate", 0.0)), format_duration(full_in)
            yield f"It fills by {rate}/s: full in {left} if that goes on."


def _next(volume: VolumeStatus, now: str) -> Iterator[str]:
    active, paused = volume.get("active_run"), volume.get("paused")
    if active:
        eta = active.get("eta")
        left = f", about {format_duration(eta)} left" if eta is not None else ""
        yield f"Run {active['id']} is under way ({active.get('phase') or 'waiting'}){left}."
    elif paused:
        until = paused.get("until")
        yield f"Nothing by itself until {until}." if until else "Nothing until it is resumed."
    elif due := volume.get("next_run"):
        left_s = max(0.0, (parse_time(due) - parse_time(now)) / timedelta(seconds=1))
        what = f"Retry {volume['retry']}" if volume.get("retry") else "The next run"
        yield f"{what} in {format_duration(left_s)}."


def _advice(causes: list[Problem], means: explanations.Explanation | None) -> list[str]:
    """Return what to do: for each code its advice, beside the hint that is in the cause."""
    known = [explanations.CODES.get(c.get("code", "")) for c in causes]
    return list(dict.fromkeys(k.do for k in known if k)) or ([means.do] if means else [])


def _of_run(run: Run) -> tuple[str, Lines]:
    word = run.get("result") or run.get("state", "")
    about = f"run {run['id']} ({run.get('kind', '')} of {run.get('volume') or 'all volumes'})"
    lines: Lines = [("cause", run["reason"])] if run.get("reason") else []
    lines += [("warning", text) for text in run.get("warnings", [])]
    error = run.get("error")
    if error:
        known = explanations.CODES.get(error.get("code", ""))
        lines += [("cause", cause(error)), ("do", known.do if known else "")]
    if run.get("point"):
        size = format_size(run.get("changed_bytes", 0))
        lines.append(("effect", f"It made point {run['point']}: {size} had changed."))
    return clean(f"{about}: {word}"), lines


def _of_point(point: Point) -> tuple[str, Lines]:
    zone = LocalZone()
    moment = parse_time(point["time"]).astimezone(zone)
    lines: Lines = []
    if point.get("reason"):
        lines.append(("cause", f"Made by comparing: {point['reason']}."))
    if point.get("suspect"):
        lines.append(("effect", "SUSPECT: the volume had held other data, the next cycle found."))
    lines.append(("effect", f"It is {point.get('consistency', 'crash')}-consistent."))
    if "forgotten" in point:
        until = point["forgotten"]["until"]
        lines.append(("next", f"Forgotten; it can be brought back until {until}."))
        lines.append(("do", f"blocksnapctl undelete {point['id']}"))
    elif "held" in point:
        lines.append(("next", f"Held until {point['held']['until'] or 'it is released'}."))
    lines.append(("docs", f"blocksnapctl show {point['id']}"))
    return clean(f"point {point['id']} of {point['volume']}, {moment:%Y-%m-%d %H:%M:%S%z}"), lines
