"""The verbs ``mount`` and ``unmount``: a point in a directory, as it was. Needs root. Edge.

    repository ─ worker, detached ─ NBD over a Unix socket ─ /dev/nbdN ─ directory

The export has a layer for what is written, thrown away in the end; so a log is replayed whether
the file system is mounted to be written or not. Of an image with partitions or LVM only the one
file system is exported: what the kernel does not see, the host's own LVM can't find a second time.
What was set up is in a record (``mount_records``), each step before it is
done; ``unmount`` takes down what it finds of it, in any state, also when the worker was killed.

Facts of a record: ``directory``, ``control`` (the worker's socket), ``point``, ``volume``,
``socket`` and ``device`` (to be attached), ``mark`` (it was), ``writable``.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, Final

from blocksnapctl import nbd_devices
from blocksnapctl.choosing import repository_of
from blocksnapctl.client import Client, ProblemError
from blocksnapctl.mount_records import Record, locked, new_record, records
from blocksnapctl.nbd_devices import CommandFailedError, run
from blocksnapctl.places import Place, found_place
from blocksnapctl.render import clean, plain, table
from blocksnapd.control.messages import EXIT_OK, SCHEMA
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    HostError,
    KeyMissingError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from blocksnapctl.commands import Context
    from blocksnapctl.detached import DetachedWorker

SOCKET_NAME: Final = "nbd.sock"
_NOTHING: Final = "Nothing was mounted."
_TYPES: Final = ("ext2", "ext3", "ext4", "xfs")
_MOUNTINFO: Final = "/proc/self/mountinfo"
_ESCAPE: Final = re.compile(rb"\\([0-3][0-7]{2})")  # blanks and the like, as the kernel writes them


def mount(context: Context) -> int:
    """Mount a point at a directory, or tell what is mounted."""
    arguments = context.arguments
    if arguments.place is None:
        return _list(context)
    if arguments.directory is None:
        raise UsageError("no directory was named", effect=_NOTHING, hint="mount POINT DIR")
    directory = _checked_directory(arguments.directory)
    nbd_devices.make_ready()
    with _worker(context) as (worker, point, place):
        volume = _volume(worker.client, point["id"], place)
        with locked():
            record = new_record()
            try:
                _set_up(worker.client, record, point, volume, directory, rw=arguments.rw)
            except BaseException:
                _take_down(record)
                raise
        worker.keep()
    _tell(context, record)
    return EXIT_OK


def unmount(context: Context) -> int:
    """Unmount what ``mount`` mounted, and leave nothing of it."""
    directory = os.path.realpath(context.arguments.directory)
    _check_root()
    with locked():
        found = [r for r in records() if r.facts.get("directory") == directory]
        if not found:
            raise NotFoundError(
                f"blocksnapctl mounted nothing at {directory}", effect="Nothing was unmounted.",
                hint="It tells what it did mount with: blocksnapctl mount",
            )  # fmt: skip
        for record in found[::-1]:
            _take_down(record)
    context.output.say(f"{directory} is unmounted.")
    return EXIT_OK


def _check_root() -> None:
    if os.geteuid() != 0:
        raise NotAllowedError(
            "only root can mount and unmount", effect="Nothing was changed.",
            hint="Use sudo; or look at files without mounting: blocksnapctl ls and cp.",
        )  # fmt: skip


def _checked_directory(name: str) -> str:
    _check_root()
    directory = os.path.realpath(name)
    if not os.path.isdir(directory):
        raise NotFoundError(f"{directory} is no directory", effect=_NOTHING)
    if os.path.ismount(directory):
        raise RefusedError(
            f"something is mounted at {directory} already", effect=_NOTHING,
            hint="Name another directory, or unmount it first.",
        )  # fmt: skip
    return directory


@contextlib.contextmanager
def _worker(context: Context) -> Any:
    """Give a worker that can live on, the point that is meant, and the volume in it."""
    from blocksnapctl.detached import DetachedWorker  # loads what most commands do without

    arguments, out, repo = context.arguments, context.output, context.arguments.repo
    if arguments.key is None:
        raise KeyMissingError(
            "reading a repository takes its private key", effect=_NOTHING,
            hint="Name it: --key FILE (the restore.key that init made).",
        )  # fmt: skip
    point = place = None
    if repo is None:
        point, place = found_place(out, context.daemon, arguments, arguments.place)
        repo = repository_of(context.daemon, point["target"])
    made: DetachedWorker = DetachedWorker(
        repo, arguments.key, arguments.passphrase_file, program=context.program
    )
    with made as worker:
        if point is None:
            point, place = found_place(out, worker.client, arguments, arguments.place)
        assert place is not None
        if place.path not in ("", "/"):
            raise UsageError(
                "only a whole file system can be mounted", effect=_NOTHING,
                hint="Leave the path out: blocksnapctl mount POINT DIR",
            )  # fmt: skip
        yield worker, worker.client.get("points", point["id"]), place


def _volume(client: Client, point_id: str, place: Place) -> dict[str, Any]:
    """Return the file system to mount, as ``ls POINT:`` tells of it.

    Raises:
        NotFoundError, UsageError: none, or several.
    """
    (part,) = client.stream("points", point_id, "files")
    volumes: list[dict[str, Any]] = part["volumes"]
    hint = "There is: " + "; ".join(f"{v['number']}: {v['kind']} in {v['place']}" for v in volumes)
    if place.part is not None:
        found = [v for v in volumes if v["number"] == place.part]
    else:
        found = [v for v in volumes if v["readable"]] or volumes
    if not found:
        raise NotFoundError(f"there is no volume {place.part} in it", effect=_NOTHING, hint=hint)
    if len(found) > 1:
        raise UsageError(
            f"there are {len(found)} file systems in it", effect=_NOTHING,
            hint=f"Name one by its number: {point_id}:1. {hint}",
        )  # fmt: skip
    return found[0]


def _set_up(
    client: Client, record: Record, point: dict[str, Any], volume: dict[str, Any], directory: str,
    *, rw: bool,
) -> None:  # fmt: skip
    socket = os.path.join(os.path.dirname(client.socket_path), SOCKET_NAME)
    record.add(
        directory=directory, control=client.socket_path, point=point["id"],
        volume=point["volume"], writable=rw, socket=socket,
    )  # fmt: skip
    request: dict[str, Any] = {
        "kind": "export", "point": point["id"], "writable": True, "unix": socket,
    }  # fmt: skip
    if volume["offset"] != 0 or volume["size"] != point["size"]:
        request["part"] = volume["number"]
    _await_export(client, client.post("runs", body=request)["id"])
    device = _attached(record, socket)
    options = ["rw" if rw else "ro", "nodev", "nosuid"]
    options += ["nouuid"] if volume["kind"] == "xfs" else []
    kind = ["-t", volume["kind"]] if volume["kind"] in _TYPES else []
    try:
        run("mount", *kind, "-o", ",".join(options), device, directory)
    except CommandFailedError as error:
        raise HostError(
            f"the kernel does not mount it: {error.said}", effect=_NOTHING,
            hint="What it holds tells: blocksnapctl ls POINT:, the kernel's reasons: dmesg.",
        ) from error  # fmt: skip


def _await_export(client: Client, run_id: str) -> None:
    for found in client.stream("runs", run_id, "follow"):
        if found.get("state") == "done":
            error = found.get("error")
            if error:
                raise ProblemError(error)
            break
        if found.get("to"):
            return
    raise UnreachableError("the worker ended before its time", effect=_NOTHING)


def _attached(record: Record, socket: str) -> str:
    """Attach the export to the first device that takes it."""
    failed: HostError | None = None
    for device in nbd_devices.free():
        record.add(device=device)
        try:
            mark = nbd_devices.attach(device, socket, lambda mark: record.add(mark=mark))
        except CommandFailedError as error:  # somebody else was faster
            failed = failed or error
            record.add(mark="")
            continue
        record.add(mark=mark)
        return device
    assert failed is not None
    failed.effect = _NOTHING
    raise failed


def _take_down(record: Record) -> None:
    """Undo whatever of a mount is there, from the top down.

    Raises:
        BusyError, HostError: something is still in use; the record stays.
    """
    facts = record.facts
    device, directory = facts.get("device"), facts.get("directory", "")
    if device is not None:
        is_ours = _is_ours(facts)
        for place in reversed(_places_of(device)):
            # A device that somebody else has attached since may have their mounts on it.
            if is_ours or place == directory:
                _unmount(place)
        if is_ours:
            nbd_devices.detach(device)
    _end_worker(facts.get("control", ""))
    record.forget()


def _is_ours(facts: dict[str, Any]) -> bool:
    mark = nbd_devices.mark_of(facts["device"])
    return mark is not None and (
        mark == facts.get("mark") or nbd_devices.is_of(facts["device"], facts["socket"])
    )


def _unmount(place: str) -> None:
    try:
        run("umount", place)
    except CommandFailedError as error:
        if "busy" not in error.said:
            raise
        raise BusyError(
            f"{place} is in use", effect="It is still mounted.",
            hint=f"Who uses it tells: fuser -vm {place}",
        ) from error  # fmt: skip


def _places_of(source: str) -> list[str]:
    """Return where a device is mounted, in the order of mounting."""
    found = []
    with open(_MOUNTINFO, "rb") as file:
        for line in file:
            head, _, tail = line.partition(b" - ")
            if tail.split(b" ")[1:2] == [os.fsencode(source)]:
                found.append(os.fsdecode(_ESCAPE.sub(_unescaped, head.split(b" ")[4])))
    return found


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)])


def _end_worker(control: str) -> None:
    """Let the worker end, if it lives: it does so once nothing is under way."""
    if not control:
        return
    client = Client(control)
    with contextlib.suppress(BlocksnapError, ProblemError):
        for found in client.get("runs")["runs"]:
            if found.get("state") != "done":
                client.post("runs", found["id"], "cancel", body={})


def _list(context: Context) -> int:
    out = context.output
    rows = [_row(record) for record in records()]
    if out.as_json:
        out.document({"schema": SCHEMA, "mounts": rows})
    elif out.as_plain:
        out.data(plain([list(row.values()) for row in rows]))
    elif rows:
        head = ("DIRECTORY", "DEVICE", "POINT", "VOLUME", "")
        lines = [
            (r["directory"], r["device"], r["point"], r["volume"], "rw" if r["writable"] else "ro")
            for r in rows
        ]
        out.data("\n".join(table(head, lines)))
    else:
        out.say("blocksnapctl mounted nothing.")
    return EXIT_OK


def _row(record: Record) -> dict[str, Any]:
    names = ("directory", "device", "point", "volume", "writable")
    return {name: record.facts.get(name, "") for name in names}


def _tell(context: Context, record: Record) -> None:
    out, row = context.output, _row(record)
    if out.as_json:
        out.document({"schema": SCHEMA, **row})
    elif out.as_plain:
        out.data(plain([list(row.values())]))
    else:
        out.data(clean(f"{row['point']} of {row['volume']} is at {row['directory']}"))
        if row["writable"]:
            out.say("What you write is thrown away in the end.")
        out.say(f"End it: blocksnapctl unmount {row['directory']}")
