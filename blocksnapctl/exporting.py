"""The verb ``export``: a point as a disk over NBD, while this command runs or longer. Edge."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit

from blocksnapctl import render
from blocksnapctl.choosing import found_point, only_repository, repository_of, selector_of
from blocksnapctl.client import WaitOverError
from blocksnapctl.times import local_iso
from blocksnapctl.zone import LocalZone
from blocksnapd.control.messages import EXIT_FAILED, EXIT_OK
from blocksnapd.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context
    from blocksnapctl.detached import DetachedWorker
    from blocksnapctl.worker import Worker
    from blocksnapd.control.messages import Run

SOCKET_NAME: Final = "nbd.sock"
NBD_PORT: Final = 10809
_NOTHING: Final = "Nothing was exported."


def export(context: Context) -> int:
    """Serve until Ctrl-C or --timeout; tell where, and what to type there."""
    arguments, out = context.arguments, context.output
    selector, repo = selector_of(arguments, arguments.point), arguments.repo
    request = _request(context)
    if repo is None and selector is not None:
        point = found_point(out, context.daemon, selector)
        repo, selector = repository_of(context.daemon, point["target"]), point["id"]
    elif repo is None:
        repo = only_repository(context.daemon)
    with _worker(context, repo) as worker:
        client = worker.client
        if selector is not None:
            point = found_point(out, client, selector)
            when = local_iso(point["time"], LocalZone())
            out.say(f"{point['id']} of {point['volume']}, {when}")
            request["point"] = point["id"]
        if not {"unix", "listen"} & request.keys():
            # In the worker's own directory, which is gone when the worker is.
            request["unix"] = os.path.join(os.path.dirname(client.socket_path), SOCKET_NAME)
        run_id = client.post("runs", body=request)["id"]
        if arguments.detach:
            return _leave(context, cast("DetachedWorker", worker), run_id)
        return _serve(context, client, run_id)


def _worker(context: Context, repo: str) -> Worker:
    arguments = context.arguments
    if not arguments.detach:
        return context.worker(repo)
    from blocksnapctl.detached import DetachedWorker  # loads what most commands do without

    return DetachedWorker(repo, arguments.key, arguments.passphrase_file, program=context.program)


def _leave(context: Context, worker: DetachedWorker, run_id: str) -> int:
    """Tell where the export is once it is there, and leave it to itself."""
    out = context.output
    for run in _runs(worker.client, run_id, None):
        if run.get("state") == "done":
            error = run.get("error")
            return out.problem(error) if error else EXIT_FAILED
        if run.get("to"):
            worker.keep()
            _tell(context, run)
            return EXIT_OK
    raise UnreachableError("the worker ended before its time", effect=_NOTHING)


def _request(context: Context) -> dict[str, Any]:
    arguments = context.arguments
    if (arguments.tls_cert is None) != (arguments.tls_key is None) or (
        arguments.tls_clients is not None and arguments.tls_cert is None
    ):
        raise UsageError(
            "--tls-cert and --tls-key belong together, --tls-clients to both", effect=_NOTHING
        )
    paths = {
        "unix": arguments.unix, "certificate": arguments.tls_cert,
        "certificate_key": arguments.tls_key, "client_ca": arguments.tls_clients,
    }  # fmt: skip
    request: dict[str, Any] = {"kind": "export"}
    request |= {key: os.path.abspath(path) for key, path in paths.items() if path is not None}
    if arguments.listen is not None:
        request["listen"] = arguments.listen
    if arguments.writable:
        request["writable"] = True
    if arguments.yes:
        request["open"] = True
    return request


def _serve(context: Context, client: Client, run_id: str) -> int:
    out, is_told, last = context.output, False, None
    try:
        for run in _runs(client, run_id, context.deadline):
            last = run
            if run.get("state") == "done":
                break
            if run.get("to") and not is_told:
                is_told = True
                _tell(context, run)
            elif out.as_json:
                out.document(run)
            out.progress(render.progress(run))
    except (KeyboardInterrupt, WaitOverError):
        out.say("The export ended.")
        return EXIT_OK
    if last is None or last.get("state") != "done":
        raise UnreachableError("the worker ended before its time", effect="The export ended.")
    error = last.get("error")
    return out.problem(error) if error else EXIT_OK if is_told else EXIT_FAILED


def _runs(client: Client, run_id: str, deadline: float | None) -> Iterator[Run]:
    for found in client.stream("runs", run_id, "follow", deadline=deadline):
        yield cast("Run", found)


def _tell(context: Context, run: Run) -> None:
    out, arguments = context.output, context.arguments
    uri = run["to"]
    if out.as_json:
        out.document(run)
        return
    out.data(uri)
    if out.as_plain:
        return
    for line in advice(uri, is_writable=arguments.writable, is_one=arguments.point is not None):
        out.say(line)
    if arguments.detach:
        out.say(f"It goes on without this terminal. End it: blocksnapctl cancel {run['id']}")
    else:
        out.say("Ctrl-C ends the export.")


def advice(uri: str, *, is_writable: bool, is_one: bool) -> list[str]:
    """Return what to type for an export, a line each: look, copy, mount."""
    parts = urlsplit(uri)
    quoted = shlex.quote(uri)
    lines = [] if is_one else ["Put the name of a point before the question mark or at the end."]
    lines += [
        f"  look    nbdinfo {'' if is_one else '--list '}{quoted}",
        f"  copy    qemu-img convert -p -f raw -O qcow2 {quoted} disk.qcow2",
    ]
    if parts.scheme == "nbds":
        return lines
    if parts.scheme == "nbd+unix":
        where = f"-unix {shlex.quote(unquote(parts.query.removeprefix('socket=')))}"
    else:
        where = f"{parts.hostname} {parts.port or NBD_PORT}"
    named = "" if is_one else " -N POINT"
    mount = "mount" if is_writable else "mount -o ro,norecovery"
    lines += [
        f"  mount   nbd-client {where} /dev/nbd0{named} && {mount} /dev/nbd0 /mnt",
        "  unmount umount /mnt && nbd-client -d /dev/nbd0",
        "XFS whose origin is mounted on this host needs -o nouuid, too.",
    ]
    if not is_writable:
        lines.append("A file system with a log to replay mounts with: export --writable")
    return lines
