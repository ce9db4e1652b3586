"""The verbs ``ls`` and ``cp``: files out of a point, without restoring or mounting it. Edge."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from blocksnapctl.choosing import repository_of
from blocksnapctl.following import follow
from blocksnapctl.places import found_place
from blocksnapctl.render import clean, plain, table
from blocksnapctl.times import show
from blocksnapctl.zone import LocalZone
from blocksnapd.control.messages import EXIT_DAMAGED, EXIT_OK, EXIT_WARNINGS
from blocksnapd.errors import UsageError
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context
    from blocksnapctl.places import Place

_TYPES: Final = {
    "file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK,
    "character device": stat.S_IFCHR, "block device": stat.S_IFBLK, "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}  # fmt: skip
_MARKS: Final = {"directory": "/", "symlink": "@", "fifo": "|", "socket": "="}
_COLUMNS: Final = ("type", "mode", "links", "uid", "gid", "size", "mtime", "name", "target")


def ls(context: Context) -> int:
    """List the file systems in a point, or what is at a path in one."""
    arguments = context.arguments
    with opened(context, arguments.place) as (client, point, place):
        query = {"path": _quoted(place.path)} if place.path else {}
        query |= {"part": str(place.part)} if place.part else {}
        query |= {key: "1" for key in ("recursive", "long") if getattr(arguments, key)}
        code, shown = EXIT_OK, _Shown(context, point["id"])
        parts = client.stream("points", point["id"], "files", deadline=context.deadline, **query)
        for part in parts:
            code = max(code, shown.part(part))
        return code


def cp(context: Context) -> int:
    """Copy a file or a tree out of a point."""
    arguments, out = context.arguments, context.output
    to = os.path.abspath(arguments.to)
    with opened(context, arguments.place) as (client, point, place):
        if not place.path:
            raise UsageError(
                f"{arguments.place} has no path", effect="Nothing was written.",
                hint="Name it behind a colon: blocksnapctl cp POINT:/path DEST",
            )  # fmt: skip
        request: dict[str, Any] = {
            "kind": "copy", "point": point["id"], "path": _quoted(place.path), "to": to,
            "recursive": arguments.recursive, "overwrite": arguments.overwrite,
        }  # fmt: skip
        if place.part:
            request["part"] = place.part
        started = client.post("runs", body=request)
        return follow(client, started["id"], out, deadline=context.deadline, is_ours=True)


@contextmanager
def opened(context: Context, text: str) -> Iterator[tuple[Client, dict[str, Any], Place]]:
    """Give a worker that reads the point which ``text`` names, the point, and the rest of it."""
    arguments, out, repo = context.arguments, context.output, context.arguments.repo
    if repo is not None:
        with context.worker(repo) as worker:
            yield worker.client, *found_place(out, worker.client, arguments, text)
        return
    point, place = found_place(out, context.daemon, arguments, text)
    with context.worker(repository_of(context.daemon, point["target"])) as worker:
        yield worker.client, worker.client.get("points", point["id"]), place


class _Shown:
    """Prints the parts of a list as they come."""

    def __init__(self, context: Context, point_id: str) -> None:
        self._out, self._point_id = context.output, point_id
        self._is_long, self._is_deep = context.arguments.long, context.arguments.recursive
        self._directory: str | None = None

    def part(self, part: Mapping[str, Any]) -> int:
        """Print one; return the exit code it makes."""
        code = EXIT_OK
        if self._out.as_json:
            self._out.document(part)
        elif "volumes" in part:
            self._volumes(part["volumes"])
        elif "entries" in part:
            self._entries(part)
        else:
            self._out.say(clean(part.get("note") or part.get("remark", "")))
        if any(entry.get("type") == "damaged" for entry in part.get("entries", ())):
            code = EXIT_DAMAGED
        return max(code, EXIT_WARNINGS if "note" in part else EXIT_OK)

    def _volumes(self, volumes: list[dict[str, Any]]) -> None:
        if self._out.as_plain:
            keys = ("number", "kind", "size", "label", "place", "readable")
            self._out.data(plain([[v.get(key) for key in keys] for v in volumes]))
            return
        rows = [
            (str(v["number"]), v["kind"], format_size(v["size"]), v["label"] or "-", v["place"],
             f"{self._point_id}:{v['number']}:/" if v["readable"] else "-")
            for v in volumes
        ]  # fmt: skip
        head = ("NUMBER", "KIND", "SIZE", "LABEL", "WHERE", "ITS FILES")
        self._out.data("\n".join(table(head, rows)))
        for volume in volumes:
            for note in volume["notes"]:
                self._out.say(clean(f"{volume['number']}: {note}"))

    def _entries(self, part: Mapping[str, Any]) -> None:
        where = part["directory"]
        lines = [self._line(where, entry) for entry in part["entries"]]
        if where != self._directory and self._is_deep and not self._out.as_plain:
            lines.insert(0, ("" if self._directory is None else "\n") + f"{clean(where)}:")
        self._directory = where
        self._out.data("\n".join(lines))

    def _line(self, where: str | None, entry: Mapping[str, Any]) -> str:
        name, kind = clean(entry["name"]), entry["type"]
        if self._out.as_plain:
            full = entry["name"] if not where else f"{where.rstrip('/')}/{entry['name']}"
            return plain([[{**entry, "name": full}.get(key) for key in _COLUMNS]]).rstrip("\n")
        if kind == "damaged":
            return f"?????????? {name}: {clean(entry.get('problem', ''))}"
        if not self._is_long:
            return name + _MARKS.get(kind, "")
        mode = stat.filemode(_TYPES.get(kind, 0) | entry["mode"])
        size = ", ".join(map(str, entry["device"])) if "device" in entry else str(entry["size"])
        arrow = f" -> {clean(entry['target'])}" if "target" in entry else ""
        when = show(datetime.fromtimestamp(entry["mtime"], UTC).astimezone(LocalZone()))
        return (
            f"{mode} {entry['links']:3} {entry['uid']:5} {entry['gid']:5} {size:>12} {when} "
            f"{name}{arrow}"
        )


def _quoted(path: str) -> str:
    """Return a path of the command line as ASCII that keeps each of its bytes."""
    return quote(os.fsencode(path), safe="/")
