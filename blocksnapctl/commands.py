"""The verbs: ask, follow, render; each returns an exit code. Edge."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from blocksnapctl import render
from blocksnapctl.choosing import found_point, only_repository, repository_of, selector_of
from blocksnapctl.client import Client, ProblemError, WaitOverError
from blocksnapctl.drilling import drill, report
from blocksnapctl.exporting import export
from blocksnapctl.files import cp, ls
from blocksnapctl.following import follow
from blocksnapctl.mapping import draw
from blocksnapctl.pausing import pause, resume
from blocksnapctl.pruning import hold, prune, release, undelete
from blocksnapctl.reloading import reload
from blocksnapctl.restoring import restore
from blocksnapctl.viewing import view
from blocksnapctl.waiting import wait
from blocksnapctl.zone import local_now
from blocksnapd import __version__
from blocksnapd.control.messages import (
    EXIT_OK,
    EXIT_UNREACHABLE,
    SCHEMA,
    looks_like_point,
)
from blocksnapd.errors import BlocksnapError, KeyMissingError, NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from blocksnapctl.output import Output
    from blocksnapctl.worker import Worker
    from blocksnapd.control.messages import Event, Point, Run, Status


class Context:
    """What a verb needs: the parsed line, where text goes, whom to ask."""

    def __init__(
        self, arguments: argparse.Namespace, output: Output, program: Sequence[str]
    ) -> None:
        self.arguments = arguments
        self.output = output
        self.program = program
        timeout_s = arguments.timeout
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.daemon = Client(arguments.socket)
        self._adopted: Worker | None = None

    def adopt(self, worker: Worker) -> None:
        """Ask this worker, which runs already, whichever repository is to be read."""
        self._adopted = worker

    def worker(self, repo: str) -> Worker:
        """Return a private worker on ``repo`` with the key named on the command line."""
        if self._adopted is not None:
            return self._adopted
        arguments = self.arguments
        if getattr(arguments, "key", None) is None:
            raise KeyMissingError(
                "reading a repository takes its private key",
                effect="Nothing was read or written.",
                hint="Name it: --key FILE (the restore.key that init made).",
            )
        from blocksnapctl.worker import Worker  # status has no use for what this takes to load

        return Worker(repo, arguments.key, arguments.passphrase_file, program=self.program)

    @contextmanager
    def reader(self) -> Iterator[Client]:
        """Whom to ask about points: the repository named by --repo, or the daemon."""
        if self.arguments.repo is None:
            yield self.daemon
            return
        with self.worker(self.arguments.repo) as worker:
            yield worker.client


def status(context: Context) -> int:
    """Show whether the volumes are protected; with --watch again and again."""
    if not context.arguments.watch:
        return _status(context)
    from blocksnapctl import watching  # one look has no use for it

    return watching.watch(context, _status)


def top(context: Context) -> int:
    """Show the volumes, what they do and what happened, on a whole terminal."""
    from blocksnapctl import live  # status has no use for what this takes to load

    return live.top(context)


def _status(context: Context) -> int:
    found = cast("Status", context.daemon.get("status"))
    wanted = context.arguments.volumes
    if wanted:
        known = dict.fromkeys(v["volume"] for v in found["volumes"])
        for name in wanted:
            if name not in known:
                raise NotFoundError(
                    f"no volume {name!r} is configured",
                    hint=f"Configured are: {', '.join(known) or 'none'}.",
                )
        found["volumes"] = [v for name in wanted for v in found["volumes"] if v["volume"] == name]
    out = context.output
    if out.as_json:
        out.document(found)
    elif out.as_plain:
        out.data(render.status_plain(found))
    else:
        out.data(render.status(found, colour=out.is_coloured, zone=local_now().tzinfo))
    return EXIT_OK


def points(context: Context) -> int:
    """List points."""
    volume, out = context.arguments.volume, context.output
    query = ({"volume": volume} if volume else {}) | ({"all": "1"} if context.arguments.all else {})
    with context.reader() as client:
        found = client.get("points", **query)
    if (target := context.arguments.of_target) is not None:
        found["points"] = [p for p in found["points"] if p["target"] == target]
    items = cast("list[Point]", found["points"])
    if out.as_json:
        out.document(found)
    elif out.as_plain:
        out.data(render.points_plain(items))
    else:
        out.data(render.points(items, local_now()))
        if not items:
            out.say("There is no point yet.")
    return EXIT_OK


def runs(context: Context) -> int:
    """List runs."""
    volume, out = context.arguments.volume, context.output
    from blocksnapctl.detached import every_run  # status has no use for what this takes to load

    found = every_run(context.daemon, volume, out)
    items = cast("list[Run]", found["runs"])
    if out.as_json:
        out.document(found)
    elif out.as_plain:
        out.data(render.runs_plain(items))
    else:
        out.data(render.runs(items, local_now(), colour=out.is_coloured))
        if not items:
            out.say("There was no run yet.")
    return EXIT_OK


def show(context: Context) -> int:
    """Tell everything about a point or run."""
    item, out = selector_of(context.arguments, context.arguments.item) or "", context.output
    with context.reader() as client:
        found = _run_or_point(out, client, item)
    if out.as_json:
        out.document(found)
    elif out.as_plain:
        out.data(render.plain(found.items()))
    else:
        out.data(render.details(found, zone=local_now().tzinfo))
    return EXIT_OK


def _run_or_point(out: Output, client: Client, item: str) -> dict[str, Any]:
    if item.startswith("r") and item.isalnum():
        from blocksnapctl.detached import teller_of

        try:
            return teller_of(client, item).get("runs", item)
        except ProblemError as error:
            if error.problem.get("code") != NotFoundError.code:
                raise
    return found_point(out, client, item)


def events(context: Context) -> int:
    """Tell what happened; with --follow, what happens."""
    arguments, out = context.arguments, context.output
    query = {"since": str(arguments.since), "follow": str(int(arguments.follow))}
    last = None
    try:
        for found in context.daemon.stream("events", deadline=context.deadline, **query):
            item = cast("Event", found)
            last = item["seq"]
            if out.as_json:
                out.document(item)
            elif out.as_plain:
                out.data(render.event_plain(item))
            else:
                out.data(render.event(item, local_now(), colour=out.is_coloured))
    except WaitOverError:
        return EXIT_OK  # --timeout is how long to watch
    if not arguments.follow:
        return EXIT_OK
    again = f" --since {last}" if last is not None else ""
    out.say(f"The daemon ended. Go on later with: blocksnapctl events --follow{again}")
    return EXIT_UNREACHABLE


def run(context: Context) -> int:
    """Start a run of each volume, or join the one under way; with --wait, see it through."""
    arguments, out, started = context.arguments, context.output, []
    for volume in arguments.volumes:
        request: dict[str, Any] = {"kind": "cycle", "volume": volume}
        if arguments.tag:
            request["tags"] = arguments.tag
        if arguments.full:
            request["full"] = True
        if arguments.of_target:
            request["target"] = arguments.of_target
        found = context.daemon.post("runs", body=request)
        started += [found["id"], *found.get("others", [])]
        word = "joined" if found["joined"] else "started"
        if found["joined"] and (arguments.tag or arguments.full):
            out.say(f"{volume}: its run was under way, so --tag and --full do not apply to it")
        if not arguments.wait:
            if out.as_json:
                out.document(found)
            else:
                out.data(f"run {found['id']}  {volume}  {word}")
    if not arguments.wait:
        out.say(f"See how it goes: blocksnapctl show {started[-1]}")
        return EXIT_OK
    codes = [follow(context.daemon, run_id, out, deadline=context.deadline) for run_id in started]
    return max(codes, key=_weight)


def _weight(code: int) -> tuple[bool, bool]:
    """Order exit codes: a failure before warnings, before all is well."""
    return code not in {0, 13}, code != 0


def cancel(context: Context) -> int:
    """Stop a run."""
    from blocksnapctl.detached import teller_of

    run_id = context.arguments.run
    found = cast("Run", teller_of(context.daemon, run_id).post("runs", run_id, "cancel", body={}))
    out = context.output
    if out.as_json:
        out.document(found)
    else:
        out.data(f"run {found['id']}  {found.get('volume', '')}  asked to stop")
    return EXIT_OK


def verify(context: Context) -> int:
    """Read points back and compare every block with its checksum, or the volume with the newest."""
    item, repo = selector_of(context.arguments, context.arguments.item), context.arguments.repo
    if context.arguments.source:
        return _verify_source(context, item)
    request: dict[str, Any] = {"kind": "verify"}
    if context.arguments.data is not None:
        request["share"] = context.arguments.data
    if item is not None and looks_like_point(item):
        if repo is None:
            point = found_point(context.output, context.daemon, item)
            repo, item = repository_of(context.daemon, point["target"]), point["id"]
        request["point"] = item
    elif item is not None:
        request["volume"] = item
        if repo is None:
            volume = context.daemon.get("volumes", item)
            repo = repository_of(context.daemon, volume["target"])
    elif repo is None:
        repo = only_repository(context.daemon)
    with context.worker(repo) as worker:
        if "@" in request.get("point", ""):
            request["point"] = found_point(context.output, worker.client, request["point"])["id"]
        started = worker.client.post("runs", body=request)
        return follow(
            worker.client, started["id"], context.output, deadline=context.deadline, is_ours=True
        )


def _verify_source(context: Context, item: str | None) -> int:
    """Have the daemon compare a volume with its newest point; what differs goes into a new one."""
    if item is None or looks_like_point(item):
        raise UsageError(
            "only a volume can be compared with what is in its newest point",
            effect="Nothing was started.", hint="Name it: blocksnapctl verify --source VOLUME",
        )  # fmt: skip
    request = {"kind": "cycle", "volume": item, "full": True}
    started = context.daemon.post("runs", body=request)
    if started["joined"]:  # that one trusts what was tracked
        context.output.say(f"{item}: a run is under way; the comparison follows it")
        follow(context.daemon, started["id"], context.output, deadline=context.deadline)
        started = context.daemon.post("runs", body=request)
    return follow(context.daemon, started["id"], context.output, deadline=context.deadline)


def mount(context: Context) -> int:
    """Mount a point at a directory, or tell what is mounted."""
    from blocksnapctl import mounting  # loads what most commands do without

    return mounting.mount(context)


def unmount(context: Context) -> int:
    """Unmount what ``mount`` mounted."""
    from blocksnapctl import mounting  # loads what most commands do without

    return mounting.unmount(context)


def version(context: Context) -> int:
    """Tell the versions of this program and, if it answers, of the daemon."""
    out, running = context.output, None
    with suppress(BlocksnapError, ProblemError):
        running = context.daemon.get("status")["version"]
    if out.as_json:
        out.document({"schema": SCHEMA, "version": __version__, "daemon": running})
    else:
        out.data(f"blocksnapctl {__version__}")
        out.data(f"blocksnapd {running}" if running else "")
    return EXIT_OK


def explain(context: Context) -> int:
    """Say why something is as it is."""
    from blocksnapctl import explaining  # loads what most commands do without

    return explaining.explain(context)


def check(context: Context) -> int:
    """Tell Nagios."""
    from blocksnapctl import checking  # loads what most commands do without

    return checking.check(context)


def completion(context: Context) -> int:
    """Print what lets a shell complete."""
    from blocksnapctl import completing  # loads what most commands do without

    return completing.completion(context)


def support(context: Context) -> int:
    """Collect what somebody who helps wants to see."""
    from blocksnapctl import supporting  # loads what most commands do without

    return supporting.support(context)


VERBS: dict[str, Callable[[Context], int]] = {
    "status": status, "top": top, "points": points, "runs": runs, "show": show, "events": events,
    "run": run, "cancel": cancel, "restore": restore, "verify": verify, "export": export,
    "ls": ls, "cp": cp, "mount": mount, "unmount": unmount, "pause": pause, "resume": resume,
    "drill": drill, "report": report, "map": draw,
    "view": view, "prune": prune, "hold": hold, "release": release, "undelete": undelete,
    "explain": explain, "check": check, "wait": wait, "version": version, "reload": reload,
    "completion": completion, "support": support,
}  # fmt: skip
