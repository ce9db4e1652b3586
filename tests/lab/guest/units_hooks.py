"""Hooks in a guest with systemd: what they are told and may do, and their end in time. Edge."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.lab.guest import kit
from tests.lab.guest.units_kit import VOLUME, ctl, cycle, main_pid

TIMEOUT_S = 15
PLACE = Path("/srv/hooks")
PROGRAM = PLACE / "look"
TELLS = ("NoNewPrivs", "CapBnd")

CONFIG_TEXT = f"""
[[volume."{VOLUME}".hook]]
at = "before-snapshot"
run = ["{PROGRAM}", "as $HOME is"]
timeout = "{TIMEOUT_S}s"
on_error = "fail-run"

[[volume."{VOLUME}".hook]]
at = "after-snapshot"
run = ["{PROGRAM}", "also this"]
user = "nobody"
always = true
"""
# Hangs once if it is to, with a child that heeds no SIGTERM and has left its process group.
SCRIPT = f"""\
#!/bin/sh
{{
    echo "user=$(id -un)"
    echo "word=$1"
    echo "mounts=$(readlink /proc/self/ns/mnt)"
    echo "cgroup=$(cat /proc/self/cgroup)"
    touch /usr/made-by-hook && echo usr=writable
    sed -n 's/:\\t/=/p' /proc/self/status
    env
}} > {PLACE}/$BLOCKSNAP_HOOK
if mv {PLACE}/hang {PLACE}/hung; then
    setsid sh -c 'trap "" TERM; echo $$ > {PLACE}/child; while :; do sleep 1; done' &
    sleep 1000
fi
"""


def install() -> None:
    """Put the program in its place."""
    PLACE.mkdir()
    PLACE.chmod(0o1777)  # one of them runs as nobody
    PROGRAM.write_text(SCRIPT)
    PROGRAM.chmod(0o755)


def told(moment: str) -> dict[str, str]:
    """Return what the hook of ``moment`` found."""
    lines = (PLACE / moment).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def confines(pid: int) -> dict[str, str]:
    """Return what confines a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    return {"mounts": os.readlink(f"/proc/{pid}/ns/mnt"), **{name: status[name] for name in TELLS}}


def run_well() -> None:
    """A cycle with hooks: they see the system as its first process does, not as the daemon."""
    cycle("with hooks")
    before, after = told("before-snapshot"), told("after-snapshot")
    kit.tell("hooks", before=before, after=after, daemon=confines(main_pid()), system=confines(1))


def hang() -> None:
    """A cycle whose hook hangs: killed with all it started, the run failed; the next is well."""
    (PLACE / "hang").touch()
    begun = time.monotonic()
    code, documents = ctl("run", VOLUME, "--wait")
    seconds = time.monotonic() - begun
    child = (PLACE / "child").read_text().strip()
    units = kit.run("systemctl", "list-units", "--all", "--no-legend", "blocksnap-hook-*")
    kit.tell(
        "hook hung", code=code, error=documents[-1], seconds=seconds,
        is_child_left=Path("/proc", child).exists(), units=units,
    )  # fmt: skip
    cycle("after the hook hung")
