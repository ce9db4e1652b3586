"""The verb ``restore``: a point's content to a file or device. Edge."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from blocksnapctl.choosing import found_point, repository_of, selector_of
from blocksnapctl.following import follow
from blocksnapctl.guided import guided, is_unfinished
from blocksnapctl.in_place import restore_in_place
from blocksnapctl.times import local_iso
from blocksnapctl.zone import LocalZone
from blocksnapd.errors import RefusedError

if TYPE_CHECKING:
    from blocksnapctl.commands import Context


def restore(context: Context) -> int:
    """Write a point's content to a file or device."""
    arguments, out = context.arguments, context.output
    if is_unfinished(arguments):
        return guided(context)
    if arguments.in_place:
        return restore_in_place(context)
    selector, to = selector_of(arguments, arguments.point), os.path.abspath(arguments.to)
    assert selector is not None
    repo, exact = arguments.repo, selector
    if repo is None:
        point = found_point(out, context.daemon, selector)
        repo, exact = repository_of(context.daemon, point["target"]), point["id"]
    overwrite = _may_overwrite(context, to)
    with context.worker(repo) as worker:
        point = found_point(out, worker.client, exact)
        when = local_iso(point["time"], LocalZone())
        out.say(f"{point['id']} of {point['volume']}, {when} → {to}")
        request = {
            "kind": "restore", "point": point["id"], "to": to, "overwrite": overwrite,
        }  # fmt: skip
        started = worker.client.post("runs", body=request)
        return follow(worker.client, started["id"], out, deadline=context.deadline, is_ours=True)


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
