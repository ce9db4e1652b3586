"""``report VOLUME --html FILE``: asks everything about a volume and writes its page. Edge."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

from blocksnapctl.charts import Clock
from blocksnapctl.client import ProblemError
from blocksnapctl.mapping import read_map, reading
from blocksnapctl.page import Findings, page
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import EXIT_OK, format_time
from blocksnapd.errors import HostError, NotAllowedError, UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context

_REGIONS, _CYCLES = 40, 160
_EVENTS: Final = -2000  # the newest; enough for weeks
_CHECKS: Final = frozenset({"verified", "damage-found", "proof-mismatch", "tracking-lied"})
_SILENT: Final = (ProblemError, UnreachableError, NotAllowedError)


def write_page(context: Context, drills: list[dict[str, Any]]) -> int:
    """Write the page of the volume that was named; with ``drills``, oldest first."""
    arguments, out = context.arguments, context.output
    if arguments.volume is None:
        raise UsageError(
            "--html writes the page of one volume", effect="Nothing was written.",
            hint="Name it: blocksnapctl report VOLUME --html FILE",
        )  # fmt: skip
    volume, now = arguments.volume, local_now()
    with reading(context, volume) as client:
        points = client.get("points", volume=volume, all="1")["points"]
        found, why = _map(client, volume, arguments.since)
    daemon = context.daemon
    status: dict[str, Any] = _unless_silent(lambda: daemon.get("volumes", volume)) or {}
    since = format_time((now.astimezone(UTC) - timedelta(seconds=arguments.since)).timestamp())
    findings = Findings(
        volume, now.timestamp(), status,
        [p for p in points if p["time"] >= since] or points[-1:],
        found, why, drills, _unless_silent(lambda: _checks(daemon, volume, since)) or [],
    )  # fmt: skip
    _write(arguments.html, page(findings, Clock(now.tzinfo)))
    out.say(f"{arguments.html} has everything about {volume}; it needs nothing but a browser.")
    return EXIT_OK


def _map(client: Client, volume: str, since_s: float) -> tuple[dict[str, Any] | None, str]:
    try:
        return read_map(client, volume, since_s=since_s, regions=_REGIONS, cycles=_CYCLES), ""
    except ProblemError as error:
        problem = error.problem
        told = (problem.get("message"), problem.get("hint"))
        return None, ". ".join(text for text in told if text)


def _checks(daemon: Client, volume: str, since: str) -> list[dict[str, Any]]:
    return [
        e
        for e in daemon.stream("events", since=str(_EVENTS))
        if e.get("volume") == volume and e.get("type") in _CHECKS and e["time"] >= since
    ]


def _unless_silent(ask: Callable[[], Any]) -> Any:
    # A repository may be all there is left.
    with suppress(*_SILENT):
        return ask()
    return None


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise HostError(
            f"{path} cannot be written: {error.strerror}",
            effect="There is no page.",
            hint="Name a file in a directory that you may write to.",
        ) from error
