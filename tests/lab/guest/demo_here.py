"""The demo as ``HERE=1`` plays it, on a host (this guest) with device-mapper: whole, interrupted.

Afterwards nothing of it may be left: no volume group, loop device, mount, process or directory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tests.lab.guest.kit import run, tell


def play() -> subprocess.Popen[bytes]:
    """Start it as make does."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.demo", "--here"],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def daemons() -> str:
    """Return the daemons that run."""
    return run("sh", "-c", "pgrep -f 'blocksnap[d] --config' || true").strip()


def leftovers() -> dict[str, str]:
    """Return what is there that was not there before."""
    with open("/proc/self/mounts", encoding="ascii") as file:
        mounts = [line.split()[1] for line in file]
    return {
        "groups": run("vgs", "--noheadings", "-o", "vg_name").strip(),
        "loops": run("losetup", "--list", "--noheadings").strip(),
        "mounts": " ".join(m for m in mounts if "blocksnap-demo" in m),
        "devices": run("dmsetup", "ls").replace("No devices found", "").strip(),
        "directories": " ".join(d for d in os.listdir(os.environ["TMPDIR"]) if "demo" in d),
        "processes": daemons(),
    }


def main() -> None:
    """Play it whole, then interrupt it in the middle of its cycles."""
    if sys.argv[1] == "whole":
        tell("played", status=play().wait(), left=leftovers())
        return
    playing = play()
    while not daemons():
        time.sleep(0.1)
    time.sleep(3)  # somewhere in the first full copy or the cycles after it: all the same to us
    playing.send_signal(signal.SIGINT)
    tell("played", status=playing.wait(), left=leftovers())


main()
