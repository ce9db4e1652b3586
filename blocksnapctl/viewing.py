"""The verb ``view``: the kernel shows a volume as it was, beside what it is now. Edge."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any, Final

from blocksnapctl.choosing import found_point, repository_of, selector_of
from blocksnapctl.following import last_of
from blocksnapctl.in_place import restore_in_place
from blocksnapctl.times import local_iso
from blocksnapctl.zone import LocalZone
from blocksnapd.control.messages import EXIT_OK, looks_like_point
from blocksnapd.errors import KeyMissingError, UsageError

if TYPE_CHECKING:
    from blocksnapctl.commands import Context

_NOTHING: Final = "Nothing was changed."


def view(context: Context) -> int:
    """Make a view of a point; or with --end, end those of a volume."""
    arguments, out = context.arguments, context.output
    if arguments.end:
        return _end(context)
    if arguments.writable and arguments.merge:
        raise UsageError("--merge and --writable exclude each other", effect=_NOTHING)
    if arguments.key is None:
        raise KeyMissingError(
            "reading a repository takes its private key", effect=_NOTHING,
            hint="Name it: --key FILE (the restore.key that init made).",
        )  # fmt: skip
    if arguments.merge:
        return restore_in_place(context, merge=True)
    selector = selector_of(arguments, arguments.point)
    assert selector is not None
    point = found_point(out, context.daemon, selector)
    repo = arguments.repo or repository_of(context.daemon, point["target"])
    out.say(f"{point['id']} of {point['volume']}, {local_iso(point['time'], LocalZone())}")
    request: dict[str, Any] = {
        "kind": "view", "point": point["id"],
        "daemon": os.path.abspath(context.daemon.socket_path),
    }  # fmt: skip
    if arguments.writable:
        request["writable"] = True
    with context.worker(repo) as worker:
        started = worker.client.post("runs", body=request)
        run = last_of(worker.client, started["id"], out, deadline=context.deadline, is_ours=True)
    return _tell(context, dict(run))


def _tell(context: Context, run: dict[str, Any]) -> int:
    out, to = context.output, run.get("to") or ""
    if run.get("error"):
        return out.problem(run["error"])
    if not out.as_json:
        for text in run.get("warnings", []):
            out.say(f"warning: {text}")
        out.data(to)
        for line in advice(to, run.get("volume", ""), is_writable=context.arguments.writable):
            out.say(line)
    return EXIT_OK


def advice(path: str, volume: str, *, is_writable: bool) -> list[str]:
    """Return what to type for a view, a line each."""
    quoted, mount = shlex.quote(path), "mount" if is_writable else "mount -o ro,norecovery"
    lines = [
        f"  mount  {mount} {quoted} /mnt",
        f"  end    umount /mnt; blocksnapctl view --end {shlex.quote(volume)}",
        "XFS whose origin is mounted on this host needs -o nouuid, too.",
        "As long as it lasts, each block of the volume is copied once when it is overwritten.",
    ]
    if not is_writable:
        lines.append("A file system with a log to replay mounts with: view --writable")
    return lines


def _end(context: Context) -> int:
    volume, out = context.arguments.point, context.output
    if looks_like_point(volume):
        raise UsageError(
            "all views of a volume are ended together", effect=_NOTHING,
            hint="Name the volume: blocksnapctl view --end VOLUME",
        )  # fmt: skip
    found = context.daemon.post("volumes", volume, "end-views", body={})
    if out.as_json:
        out.document(found)
    else:
        for line in found["done"] or [f"There is no view of {volume}."]:
            out.data(line)
    return EXIT_OK
