"""The verb ``restore``: a point's content to a file, a device, or a volume that it makes. Edge."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from blocksnapctl import render, render_restore
from blocksnapctl.choosing import found_point, repository_of, selector_of
from blocksnapctl.client import WaitOverError
from blocksnapctl.following import follow, last_of, wait_over
from blocksnapctl.guided import guided, is_unfinished
from blocksnapctl.in_place import restore_in_place
from blocksnapctl.times import local_iso
from blocksnapctl.zone import LocalZone
from blocksnapd.control.messages import EXIT_DAMAGED, EXIT_FAILED, EXIT_OK, EXIT_WARNINGS
from blocksnapd.errors import RefusedError, UsageError

if TYPE_CHECKING:
    import argparse

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context

LIST_SUFFIX = ".damaged"
REST_SUFFIXES = (".blocksnap-partial", ".blocksnap-journal")
_VOLUME = re.compile(r"([A-Za-z0-9_+.][A-Za-z0-9_+.-]*)/([A-Za-z0-9_+.][A-Za-z0-9_+.-]*)")
_NOTHING = "Nothing was written."


class Place(NamedTuple):
    """Where to: a path, or the device of a logical volume that ``is_new``."""

    path: str
    is_new: bool


def restore(context: Context) -> int:
    """Write a point's content to a file or device."""
    arguments, out = context.arguments, context.output
    if is_unfinished(arguments):
        return guided(context)
    if arguments.in_place:
        _refuse_in_place(arguments)
        return restore_in_place(context)
    selector, to = selector_of(arguments, arguments.point), place_of(arguments.to)
    assert selector is not None
    repo, exact = arguments.repo, selector
    if repo is None:
        point = found_point(out, context.daemon, selector)
        repo, exact = repository_of(context.daemon, point["target"]), point["id"]
    request = _request(context, to)
    try:
        with context.worker(repo) as worker:
            request["point"] = found_point(out, worker.client, exact)["id"]
            code = _do(context, worker.client, request)
    except KeyboardInterrupt:
        _tell_of_rest(context, to)
        raise
    if code not in {EXIT_OK, EXIT_WARNINGS}:
        _tell_of_rest(context, to)
    return code


def _do(context: Context, client: Client, request: dict[str, Any]) -> int:
    """Plan it, or do it and see it through."""
    out = context.output
    if context.arguments.dry_run:
        return _plan(context, client, request)
    point = client.get("points", request["point"])
    when = local_iso(point["time"], LocalZone())
    out.say(f"{point['id']} of {point['volume']}, {when} → {request['to']}")
    started = client.post("runs", body=request)
    return follow(client, started["id"], out, deadline=context.deadline, is_ours=True)


def _tell_of_rest(context: Context, to: Place) -> None:
    """Say that what an unfinished restore left is of use; of a device the worker says it."""
    rest = [path for s in REST_SUFFIXES if os.path.exists(path := to.path + s)]
    if rest and not to.path.startswith("/dev/"):
        context.output.say(
            "The same command goes on with what is there. To give it up: rm " + shlex.join(rest)
        )


def place_of(text: str) -> Place:
    """Return where ``--to`` leads: VG/LV is a volume to be made, everything else a path.

    Raises:
        RefusedError: it may be both.
    """
    volume = _VOLUME.fullmatch(text)
    if volume is None or volume[1] in {".", ".."}:
        return Place(os.path.abspath(text), is_new=False)
    if not os.path.isdir(volume[1]):
        return Place(f"/dev/{text}", is_new=True)
    if os.path.isdir(f"/dev/{volume[1]}"):
        raise RefusedError(
            f"{text} may be a file here or a logical volume",
            effect=_NOTHING,
            hint=f"Write ./{text} for the file, or go elsewhere (cd) for the volume.",
        )
    return Place(os.path.abspath(text), is_new=False)


def _request(context: Context, to: Place) -> dict[str, Any]:
    arguments = context.arguments
    request: dict[str, Any] = {"kind": "restore", "to": to.path, "overwrite": False}
    if arguments.dry_run:
        request |= {"dry_run": True, "overwrite": True}  # what would be lost is in the plan
    elif not to.is_new:
        request["overwrite"] = _may_overwrite(context, to.path)
    if to.is_new:
        request["new"] = True
    if arguments.allow_damaged:
        named = arguments.damaged_list or _list_place(to)
        request |= {"allow_damaged": True, "damaged_list": os.path.abspath(named)}
    elif arguments.damaged_list:
        raise UsageError("--damaged-list belongs to --allow-damaged", effect=_NOTHING)
    return request


def _list_place(to: Place) -> str:
    """Return where to list what is lost: beside a file; of a device here, /dev is memory."""
    is_device = to.is_new or (os.path.exists(to.path) and not os.path.isfile(to.path))
    return (os.path.basename(to.path) if is_device else to.path) + LIST_SUFFIX


def _refuse_in_place(arguments: argparse.Namespace) -> None:
    for name in ("dry_run", "allow_damaged", "damaged_list"):
        if getattr(arguments, name):
            raise UsageError(
                f"--{name.replace('_', '-')} is not for --in-place",
                effect=_NOTHING,
                hint="Restore to another place with it: --to PATH.",
            )


def _plan(context: Context, client: Client, request: dict[str, Any]) -> int:
    """Show what would be done."""
    out, run_id = context.output, client.post("runs", body=request)["id"]
    try:
        run = last_of(
            client, run_id, out, deadline=context.deadline, is_ours=True, is_data=False
        )  # fmt: skip
    except WaitOverError:
        return out.problem(wait_over(run_id, is_ours=True))
    found, error = run.get("planned"), run.get("error")
    if found is None:
        return out.problem(error) if error else EXIT_FAILED
    if out.as_json:
        out.document({"schema": 1, **found})
    elif out.as_plain:
        out.data(render.plain(found.items()))
    else:
        out.data(render_restore.plan(found, LocalZone()))
        out.say("Nothing was written.")
    is_whole = found["damaged_bytes"] == 0 or context.arguments.allow_damaged
    return EXIT_OK if is_whole else EXIT_DAMAGED


def _may_overwrite(context: Context, to: str) -> bool:
    """Ask before something existing is written over; a new or an empty file needs no asking."""
    try:
        found = os.stat(to)
    except OSError:
        return False
    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
        return True
    if context.arguments.yes:
        return True
    if sys.stdin.isatty() and not context.output.as_json and not context.output.is_quiet:
        sys.stderr.write(f"{to} exists; its content will be lost. Proceed? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return True
    raise RefusedError(
        f"{to} exists", effect="It was not touched.",
        hint="Name another place, or say --yes to lose what is there.",
    )  # fmt: skip
