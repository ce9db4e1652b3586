"""The verb ``support``: what somebody who helps wants to see, in one file, without secrets. Edge.

Only what is listed here gets in: answers of the daemon, the words of a few programs that look and
change nothing, and the daemon's part of the journal. No file that a configuration names is opened,
so no key, passphrase or content of a volume can be in it. What cannot be had is told in its place.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING, Final

from blocksnapctl.client import ProblemError
from blocksnapd import __version__
from blocksnapd.control.messages import EXIT_OK, SCHEMA
from blocksnapd.errors import BlocksnapError, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapctl.client import Client
    from blocksnapctl.commands import Context

EVENTS_MAX: Final = 2000
PROGRAM_S_MAX: Final = 20.0
SAID_SIZE_MAX: Final = 4 << 20  # of one program
ANSWERS: Final = ("status", "config", "points", "runs", "drills")
# dmsetup shows no keys of encrypted devices unless it is told to.
PROGRAMS: Final = {
    "uname.txt": ("uname", "-a"),
    "lsblk.txt": ("lsblk", "-o", "NAME,TYPE,SIZE,FSTYPE,MOUNTPOINTS,RO"),
    "losetup.txt": ("losetup", "--list"),
    "dmsetup-table.txt": ("dmsetup", "table"),
    "dmsetup-status.txt": ("dmsetup", "status"),
    "pvs.txt": ("pvs", "-a"),
    "vgs.txt": ("vgs",),
    "lvs.txt": ("lvs", "-a", "-o", "+lv_tags,lv_uuid"),
    "unit.txt": ("systemctl", "status", "--no-pager", "--lines=0", "blocksnapd"),
    "journal.txt": ("journalctl", "-u", "blocksnapd", "--no-pager", "-n", "5000"),
}


def support(context: Context) -> int:
    """Write the file; name it."""
    out = context.output
    stem = f"blocksnap-support-{time.strftime('%Y%m%d-%H%M%S')}"
    path = context.arguments.to or f"{stem}.tar.gz"
    members = [*_answers(context.daemon), *_programs(context.program)]
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, text in members:
                _add(tar, f"{stem}/{name}", text)
    except OSError as error:
        raise HostError(
            f"cannot write {path}: {error.strerror}", effect="Nothing was collected.",
            hint="Name another place: blocksnapctl support --to FILE",
        ) from error  # fmt: skip
    if out.as_json:
        names = [name for name, _ in members]
        out.document({"schema": SCHEMA, "path": os.path.abspath(path), "members": names})
    else:
        out.data(path)
        out.say(
            "It names hosts, volumes and users, and holds no key. Look into it: tar tzf " + path
        )
    return EXIT_OK


def _answers(daemon: Client) -> Iterator[tuple[str, str]]:
    yield "version.txt", f"blocksnapctl {__version__}\n"
    for name in ANSWERS:
        try:
            yield f"{name}.json", json.dumps(daemon.get(name), indent=1)
        except (BlocksnapError, ProblemError) as error:
            yield f"{name}.json", json.dumps({"missing": str(error)})
    try:
        lines = [json.dumps(e) for e in daemon.stream("events", since=str(-EVENTS_MAX))]
    except (BlocksnapError, ProblemError) as error:
        lines = [json.dumps({"missing": str(error)})]
    yield "events.jsonl", "\n".join(lines) + "\n"


def _programs(daemon_program: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, argv in PROGRAMS.items():
        yield name, _said(argv)
    yield "doctor.txt", _said([*daemon_program, "doctor"])


def _said(argv: Sequence[str]) -> str:
    """Return what a program prints, cut at ``SAID_SIZE_MAX``; or why it printed nothing."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=PROGRAM_S_MAX, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"missing: {error}\n"
    text = done.stdout[-SAID_SIZE_MAX:].decode(errors="replace")
    return f"{text}[{argv[0]} ended with {done.returncode}]\n"


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    data, member = text.encode(), tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
    tar.addfile(member, io.BytesIO(data))
