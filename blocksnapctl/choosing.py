"""Which point and which repository a command line means. Edge.

A point may be chosen by a time, see ``times``: ``VOLUME@14:05`` is the newest point not after it,
``VOLUME@before 14:05`` the newest strictly before. The zone of this machine is put behind a time
here, and the daemon asked for an instant; how it was understood is always told.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from blocksnapctl import times
from blocksnapctl.client import ProblemError
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import parse_time
from blocksnapd.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse

    from blocksnapctl.client import Client
    from blocksnapctl.output import Output
    from blocksnapd.control.messages import Point

_BEFORE = "before "
_MARKED = re.compile(r"(.*)(#[A-Za-z0-9][A-Za-z0-9_-]*)")
_RESOLUTION = timedelta(microseconds=1)  # finer than any time that is told


class _Asked(NamedTuple):
    volume: str
    text: str
    is_strict: bool
    mark: str  # of one target alone, see ``control.selectors``


def selector_of(arguments: argparse.Namespace, item: str | None) -> str | None:
    """Return what selects a point: ``item``, with the --at or --before that makes it one.

    Raises:
        UsageError: a time without a volume.
    """
    at, before = getattr(arguments, "at", None), getattr(arguments, "before", None)
    target = getattr(arguments, "of_target", None)
    mark = f"#{target}" if target and item else ""
    if at is None and before is None:
        return f"{item}{mark}" if item else item
    if item is None or item.startswith("latest:"):
        raise UsageError(
            "--at and --before need a VOLUME",
            effect="Nothing was done.",
            hint=f"For example: blocksnapctl {arguments.verb} VOLUME --at 14:05",
        )
    return (f"{item}@{at}" if before is None else f"{item}@{_BEFORE}{before}") + mark


def found_point(output: Output, client: Client, selector: str) -> dict[str, Any]:
    """Return the point that ``selector`` names; say how it was understood.

    Raises:
        ProblemError, UsageError: none, or several, or no time. UnreachableError: nobody answers.
    """
    asked = _asked(selector)
    point = client.get("points", selector) if asked is None else _by_time(output, client, asked)
    if point.get("note"):
        output.say(point["note"])
    return point


def _asked(selector: str) -> _Asked | None:
    volume, at, text = selector.rpartition("@")
    marked = _MARKED.fullmatch(text)
    text, mark = (marked[1], marked[2]) if marked else (text, "")
    if not at or text == "latest" or selector.startswith("latest:"):
        return None
    is_strict = text.startswith(_BEFORE)
    return _Asked(volume, text.removeprefix(_BEFORE), is_strict, mark)


def _by_time(output: Output, client: Client, asked: _Asked) -> dict[str, Any]:
    now = local_now()
    try:
        moment = times.read_time(asked.text, now)
    except times.UnclearTimeError as error:
        near = times.nearest(_points(client, asked.volume), error.around, now.tzinfo)
        error.hint = "\n".join(filter(None, [error.hint, near]))
        raise
    if moment > now:
        _refuse_future(client, asked, moment)
    limit = moment - _RESOLUTION if asked.is_strict else moment
    exact = limit.astimezone(UTC).isoformat()
    try:
        point = client.get("points", f"{asked.volume}@{exact}{asked.mark}")
    except ProblemError as error:
        raise _with_nearest(error, client, asked, moment) from error
    word = _BEFORE if asked.is_strict else ""
    output.say(word + times.understood(asked.text, moment, parse_time(point["time"])))
    return point


def _refuse_future(client: Client, asked: _Asked, moment: datetime) -> None:
    """Refuse a time to come. Where there are points of that time, the clock here is late."""
    known = _points(client, asked.volume)
    if not known or max(parse_time(p["time"]) for p in known) >= moment:
        return
    is_of_today = ":" in asked.text[:3]
    hint = f"If yesterday's is meant: 'yesterday {asked.text}'." if is_of_today else ""
    near = times.nearest(known, [moment], moment.tzinfo)
    raise UsageError(
        f"{asked.text} read as {times.show(moment)} is yet to come",
        effect="Nothing was done.",
        hint="\n".join(filter(None, [hint, near])),
    )


def _with_nearest(
    error: ProblemError, client: Client, asked: _Asked, moment: datetime
) -> ProblemError:
    """Return why no point is that old, with the points there are; other errors as they are."""
    problem = error.problem
    known = _points(client, asked.volume) if problem.get("code") == NotFoundError.code else []
    if not known:
        return error
    word = "older than" if asked.is_strict else "as old as"
    message = f"{asked.volume} has no point {word} {times.show(moment)} ({asked.text})"
    near = times.nearest(known, [moment], moment.tzinfo)
    return ProblemError({**problem, "message": message, "hint": near})


def _points(client: Client, volume: str) -> list[Point]:
    return cast("list[Point]", client.get("points", volume=volume)["points"])


def repository_of(client: Client, target: str) -> str:
    """Return the URL of a target that the daemon knows.

    Raises:
        NotFoundError: it knows none of that name.
    """
    for found in client.get("status")["targets"]:
        if found["name"] == target:
            return str(found["url"])
    raise NotFoundError(
        f"the daemon knows no target {target!r}", hint="Name the repository with --repo URL."
    )


def only_repository(client: Client) -> str:
    """Return the URL of the one target there is.

    Raises:
        UsageError: there are none, or several.
    """
    targets = client.get("status")["targets"]
    if len(targets) == 1:
        return str(targets[0]["url"])
    raise UsageError(
        f"there are {len(targets)} targets", hint="Name a volume, a point or --repo URL."
    )
