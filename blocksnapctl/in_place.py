"""``restore POINT --in-place``: only what differs is written, to the volume itself. Edge."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from blocksnapctl.choosing import found_point, repository_of, selector_of
from blocksnapctl.following import follow
from blocksnapctl.times import local_iso
from blocksnapctl.zone import LocalZone
from blocksnapd.errors import RefusedError

if TYPE_CHECKING:
    from typing import Any

    from blocksnapctl.commands import Context

_UNTOUCHED = "The volume was not written to."


def restore_in_place(context: Context, *, merge: bool = False) -> int:
    """Make a volume what it was, with the daemon's help: it makes a point to undo it by.

    With ``merge`` the kernel does it: what was is there at once, and copied in the background.
    """
    arguments, out = context.arguments, context.output
    selector = selector_of(arguments, arguments.point)
    assert selector is not None
    point = found_point(out, context.daemon, selector)
    repo = arguments.repo or repository_of(context.daemon, point["target"])
    out.say(f"{point['id']}, {local_iso(point['time'], LocalZone())} → {point['volume']}, in place")
    _confirm(context, point)
    with context.worker(repo) as worker:
        request: dict[str, Any] = {
            "kind": "in-place", "point": point["id"],
            "daemon": os.path.abspath(context.daemon.socket_path),
        }  # fmt: skip
        if arguments.repo is None:
            request["target"] = point["target"]
        if merge:
            request["merge"] = True
        started = worker.client.post("runs", body=request)
        return follow(worker.client, started["id"], out, deadline=context.deadline, is_ours=True)


def _confirm(context: Context, point: dict[str, Any]) -> None:
    """Ask before a volume becomes what it was."""
    volume = point["volume"]
    if context.arguments.yes:
        return
    if sys.stdin.isatty() and not context.output.as_json and not context.output.is_quiet:
        sys.stderr.write(
            f"{volume} becomes what it was then; a point is made first, to undo it by. "
            "Proceed? [y/N] "
        )
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return
    raise RefusedError(
        f"{volume} would be overwritten", effect=_UNTOUCHED,
        hint="Say --yes if that is wanted. A point is made first, to undo it by.",
    )  # fmt: skip
