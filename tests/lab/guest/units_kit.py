"""The units of the project in a guest with systemd: installed, configured, asked. Edge.

    /dev/ubda   volume group vg: vg/data, ext4, mounted at /srv/data by /etc/fstab
    /dev/ubdb   the disk of the COW space's file, at /srv/snapshots
    /dev/ubdc   the vault with the repository, at /srv/vault

Everything else is where a package puts it: /etc/blocksnap, /var/lib/blocksnap, /run/blocksnap.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.guest import kit

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = "/opt/project"
SERVICE = "blocksnapd.service"
VOLUME = "vg/data"
DATA = Path("/srv/data")
CONFIG = Path("/etc/blocksnap/blocksnap.toml")
EVENTS = Path("/var/lib/blocksnap/events.jsonl")
WAIT_S_MAX = 120.0
ASK_AGAIN = 75  # E-BUSY

CONFIG_TEXT = """\
schema = 1

[control]
read_group = "blocksnap"
admin_group = "blocksnap-admin"

[metrics]
listen = []

[target.vault]
url = "/srv/vault/repository"
source_key = "/etc/blocksnap/source.key"
maintenance_key = "/etc/blocksnap/maintenance.key"

[cow.spare-disk]
file = "/srv/snapshots/cow.img"
vg = "vg"
reserve = "1 MiB"

[volume."vg/data"]
every = "1h"
targets = ["vault"]
cow = { space = "spare-disk", chunk = "4 KiB", freeze_max = "10s" }
retry = { first = "1s", max = "2s" }

[volume."vg/data".drill]
every = "7d"
key = "/etc/blocksnap/restore.key"
run = ["sh", "-c", 'test -s "$BLOCKSNAP_IMAGE"']
"""
FSTAB = """\
/dev/ubdb /srv/snapshots ext4 defaults,x-systemd.device-timeout=60 0 0
/dev/ubdc /srv/vault ext4 defaults,x-systemd.device-timeout=60 0 0
/dev/vg/data /srv/data ext4 defaults,x-systemd.device-timeout=60 0 0
"""


def install() -> None:
    """Install what the package installs; the programs are those of the project's tree."""
    kit.run(f"{PROJECT}/packaging/install")
    for program in ("blocksnapd", "blocksnapctl"):
        path = Path("/usr/bin", program)
        path.write_text(
            f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {PROJECT}/.venv/bin/python -m {program} "$@"\n'
        )
        path.chmod(0o755)
    kit.run("systemd-sysusers", "blocksnap.conf")
    kit.run("systemd-tmpfiles", "--create", "blocksnap.conf")


def make_disks() -> None:
    """Make the volume, the snapshot disk and the vault, and mount them as each boot will."""
    kit.make_vg("vg", "/dev/ubda")
    kit.make_lv("vg", "data", 64 * kit.MIB)
    for device in ("/dev/ubdb", "/dev/ubdc", "/dev/vg/data"):
        kit.run("mkfs.ext4", "-qF", device)
    Path("/etc/fstab").write_text(FSTAB)
    for folder in ("snapshots", "vault", "data"):
        Path("/srv", folder).mkdir(parents=True)
        kit.run("mount", f"/srv/{folder}")


def configure() -> None:
    """Make repository, keys, configuration and COW space, as an administrator does."""
    kit.run("blocksnapd", "init", "/srv/vault/repository", "--keys", "/etc/blocksnap")
    CONFIG.write_text(CONFIG_TEXT)
    kit.run("blocksnapctl", "config", "check")
    kit.run("blocksnapd", "cow", "create")


def shown(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit, as ``systemctl show`` tells them."""
    argv = ("systemctl", "show", unit, "--property", ",".join(names))
    return dict(line.split("=", 1) for line in kit.run(*argv).splitlines())


def main_pid() -> int:
    """Return the daemon's process id; 0 while there is none."""
    return int(shown(SERVICE, "MainPID")["MainPID"])


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return what ``condition`` returns once that is true."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise kit.CommandError(f"waited in vain for {what}\n{journal()}")
        time.sleep(0.1)
    return found


def wait_for_restart(number: int) -> dict[str, str]:
    """Wait until systemd restarted the daemon for the ``number``-th time and it is ready again."""
    names = ("NRestarts", "ActiveState", "SubState", "StatusText", "Result")

    def is_back() -> bool:
        now = shown(SERVICE, *names)
        return int(now["NRestarts"]) >= number and now["SubState"] == "running"

    until(is_back, f"restart {number}")
    return shown(SERVICE, *names)


def ctl(*words: str) -> tuple[int, list[dict[str, Any]]]:
    """Type one blocksnapctl command; return its exit code and the JSON documents it printed."""
    done = subprocess.run(
        ["blocksnapctl", "--json", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def write(name: str, size: int) -> None:
    """Write a file of ``size`` bytes to the volume, to the disk."""
    path = DATA / name
    with path.open("wb") as file:
        for _ in range(size // kit.MIB):
            file.write(Path("/dev/urandom").open("rb").read(kit.MIB))  # noqa: SIM115
    kit.run("sync", "-f", str(path))


def cycle(name: str) -> None:
    """Change the volume, ask for a point, tell what came.

    Asked again while the daemon says to: its volume may be on the way to another configuration.
    """
    write("changing", kit.MIB)

    def asked() -> tuple[int, list[dict[str, Any]]] | None:
        found = ctl("run", VOLUME, "--wait")
        return found if found[0] != ASK_AGAIN else None

    code, documents = until(asked, "a run")
    _tell_cycle(name, code, documents[-1] if documents else {})


def start_long_run() -> str:
    """Write much to the volume and ask for a point; return the id of that run, which takes long."""
    write("much", 24 * kit.MIB)
    return str(ctl("run", VOLUME)[1][-1]["id"])


def see_through(name: str, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run, tell what came, return it."""

    def ended() -> dict[str, Any] | None:
        run = ctl("show", run_id)[1][-1]
        return run if run["state"] == "done" else None

    run: dict[str, Any] = until(ended, f"the end of {run_id}")
    _tell_cycle(name, 0, run)
    return run


def _tell_cycle(name: str, code: int, run: dict[str, Any]) -> None:
    told = {word: run.get(word) for word in ("result", "error", "reason", "point")}
    kit.tell("cycle", name=name, code=code, **told)


def tell_points() -> None:
    """Tell which method each point came of, and which kinds of events there were."""
    points = ctl("points", VOLUME)[1][-1]["points"]
    kinds = {json.loads(line)["type"] for line in EVENTS.read_text().splitlines()}
    methods = {point["id"]: point["method"] for point in points}
    kit.tell("points", methods=methods, kinds=sorted(kinds))


def exposure(unit: str) -> float:
    """Return what systemd says of the sandbox of a unit as it has loaded it: 0 tight, 10 none."""
    said = kit.run("systemd-analyze", "security", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    if not found:
        raise kit.CommandError(said)
    return float(found[1])


def journal() -> str:
    """Return the last words of the daemon and of systemd about it."""
    return kit.run("journalctl", "-b", "--no-pager", "-n", "60", "-u", SERVICE, check=False)
