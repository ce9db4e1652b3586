"""The verbs ``drill`` and ``report``: prove that points can be used, show that it was done. Edge.

With ``--key`` the drill is ours, on this machine, by our private worker; without, the daemon's, as
its configuration says. Either way its evidence is kept by the daemon that protects the volume;
where there is none, in a file of whoever drilled, which ``report`` reads too.
"""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from blocksnapctl import render_drill
from blocksnapctl.choosing import found_point, repository_of, selector_of
from blocksnapctl.client import ProblemError, WaitOverError
from blocksnapctl.following import last_of, wait_over
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_WARNINGS,
    SCHEMA,
    format_time,
    looks_like_point,
    parse_time,
)
from blocksnapd.errors import NotAllowedError, UnreachableError, UsageError

if TYPE_CHECKING:
    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context
    from blocksnapd.control.messages import Run

LINE_SIZE_MAX: Final = 256 << 10
_NOTHING: Final = "Nothing was drilled."
_CODES: Final = {"success": EXIT_OK, "warning": EXIT_WARNINGS}


def drill(context: Context) -> int:
    """Drill the newest point of a volume, or another one; tell and keep what was found."""
    arguments = context.arguments
    selector = selector_of(arguments, arguments.item)
    assert selector is not None
    if arguments.key is None and arguments.repo is None:
        return _by_the_daemon(context, selector)
    is_point = looks_like_point(selector)
    point = selector if is_point else f"latest:{selector}"
    repo, target = arguments.repo, ""
    if repo is None:
        known = found_point(context.output, context.daemon, point)
        repo, target = repository_of(context.daemon, known["target"]), known["target"]
        point = known["id"]
    with context.worker(repo) as worker:
        point = found_point(context.output, worker.client, point)["id"]
        request: dict[str, Any] = {"kind": "drill", "point": point}
        if arguments.check is not None:
            request["check"] = shlex.split(arguments.check)
        if arguments.scratch is not None:
            request["scratch"] = os.path.abspath(arguments.scratch)
        if arguments.no_restore:
            request["restores"] = False
        started = worker.client.post("runs", body=request)
        ended = _seen_through(context, worker.client, started["id"], is_ours=True)
    if (found := ended.get("drill")) is not None:
        _keep(context, {**found, "target": target or found["target"]})
    return _told(context, ended)


def _by_the_daemon(context: Context, selector: str) -> int:
    arguments = context.arguments
    if arguments.check or arguments.scratch or arguments.no_restore:
        raise UsageError(
            "the daemon drills as its configuration says", effect=_NOTHING,
            hint="To say how, name the key: --key FILE (the restore.key that init made).",
        )  # fmt: skip
    request: dict[str, Any] = {"kind": "drill", "volume": selector}
    if looks_like_point(selector):
        point = found_point(context.output, context.daemon, selector)
        request |= {"volume": point["volume"], "point": point["id"]}
    started = context.daemon.post("runs", body=request)
    return _told(context, _seen_through(context, context.daemon, started["id"], is_ours=False))


def _seen_through(context: Context, client: Client, run_id: str, *, is_ours: bool) -> Run:
    try:
        return last_of(
            client, run_id, context.output, deadline=context.deadline, is_ours=is_ours,
            is_data=False,
        )  # fmt: skip
    except WaitOverError:
        raise ProblemError(wait_over(run_id, is_ours=is_ours)) from None


def _told(context: Context, ended: Run) -> int:
    out, found, error = context.output, ended.get("drill"), ended.get("error")
    if found is not None and out.as_json:
        out.document(found)
    elif found is not None and out.as_plain:
        out.data(render_drill.report_plain([found]))
    elif found is not None:
        out.data(render_drill.drill(found, local_now()))
    if error is not None:
        return out.problem(error)
    return _CODES.get(str((found or {}).get("result")), EXIT_FAILED)


def _keep(context: Context, found: dict[str, Any]) -> None:
    """Have the daemon keep the evidence; without it, or if it is another host's, keep it here."""
    if context.arguments.repo is None:
        try:
            context.daemon.post("drills", body=found)
        except (ProblemError, UnreachableError, NotAllowedError) as error:
            context.output.say(f"The daemon does not keep the evidence: {error}")
        else:
            return
    path = own_evidence()
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    except OSError as error:
        context.output.say(f"The evidence is not kept: {path}: {error.strerror}")
    else:
        context.output.say(f"The evidence is in {path}")


def own_evidence() -> str:
    """Return where the evidence is kept of drills that no daemon heard of."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "blocksnap", "drills.jsonl")


def report(context: Context) -> int:
    """Show the drills that were made, newest last; what is missing is told, too."""
    arguments, out = context.arguments, context.output
    since = local_now().astimezone(UTC) - timedelta(seconds=arguments.since)
    query = {"since": format_time(since.timestamp())}
    if arguments.volume is not None:
        query["volume"] = arguments.volume
    found = _own(arguments.volume, query["since"])
    is_known = True
    try:
        found += context.daemon.get("drills", **query)["drills"]
    except (UnreachableError, NotAllowedError) as error:
        if not found and arguments.html is None:
            raise
        is_known = False
        out.say(f"Only drills that were made without the daemon are listed: {error.message}")
    found.sort(key=lambda drill: drill["ended"])
    if arguments.html is not None:
        from blocksnapctl.paging import write_page  # loads what most commands do without

        return write_page(context, found)
    undrilled = _undrilled(context, found, arguments.volume) if is_known else []
    if out.as_json:
        out.document({"schema": SCHEMA, "drills": found, "undrilled": undrilled, **query})
    elif out.as_plain:
        out.data(render_drill.report_plain(found))
    else:
        out.data(render_drill.report(found, undrilled, since, local_now()))
    return EXIT_OK


def _undrilled(context: Context, found: list[dict[str, Any]], wanted: str | None) -> list[str]:
    """Return the volumes that the daemon protects, and of which there is no drill."""
    drilled = {drill["volume"] for drill in found}
    known = dict.fromkeys(v["volume"] for v in context.daemon.get("status")["volumes"])
    return [name for name in known if name not in drilled and wanted in (None, name)]


def _own(volume: str | None, since: str) -> list[dict[str, Any]]:
    found = []
    try:
        with open(own_evidence(), encoding="utf-8", errors="replace") as file:
            while line := file.readline(LINE_SIZE_MAX):
                drill = _evidence(line)
                if drill is not None and volume in (None, drill["volume"]):
                    found.append(drill)
    except OSError:
        return []
    return [d for d in found if parse_time(d["ended"]) >= parse_time(since)]


def _evidence(line: str) -> dict[str, Any] | None:
    """Return what ``_keep`` wrote; what somebody else did is nobody's evidence."""
    try:
        found = cast("dict[str, Any]", json.loads(line))
        parse_time(found["ended"])
        render_drill.report_plain([found])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found
