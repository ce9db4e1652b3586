"""Plays the scene on this machine: a lab guest, or a host with device-mapper (``--here``)."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from typing import NoReturn

from tests.demo.host import Host
from tests.demo.scene import Scene


def main() -> int:
    """Return 0 when every comparison was equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disk", action="append", default=[], metavar="NAME=DEVICE")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    if arguments.disk:  # a guest of its own: plain names can't meet anybody else's
        work, vg = "/run/demo", "vg0"
        os.mkdir(work)
        socket.sethostname("demo")
    else:
        work, vg = tempfile.mkdtemp(prefix="blocksnap-demo-"), f"blocksnap_demo_{os.getpid()}"
    host = Host(work, vg, dict(pair.split("=", 1) for pair in arguments.disk) or None)
    scene = Scene(host)
    try:
        return 0 if scene.play() else 1
    except Exception:
        traceback.print_exc()
        print(scene.log(), file=sys.stderr)
        return 1
    finally:
        host.close()
        shutil.rmtree(work, ignore_errors=True)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
