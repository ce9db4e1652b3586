"""The daemon and its command line in a guest: started, asked, typed at, as people do. Edge."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.guest import kit
from tests.lab.guest.crash_world import REFERENCES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.guest.crash_world import World

SOCKET = "/run/lab/control.sock"
LOG = Path("/run/lab/tmp/daemon.log")
WAIT_S_MAX = 90.0


class Daemon:
    """blocksnapd as systemd starts it, without systemd."""

    def __init__(self, world: World) -> None:
        with LOG.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "blocksnapd", "--config", world.config_path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.until(lambda: ask("/v1/health/ready") is not None, "the daemon to be ready")

    def stop(self) -> tuple[int, float]:
        """Stop it in good order; return its exit status and how long that took."""
        begun = time.monotonic()
        self.process.terminate()
        return self.process.wait(WAIT_S_MAX), time.monotonic() - begun

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Return what ``condition`` returns once that is true."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not (found := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise kit.CommandError(f"waited in vain for {what}\n{LOG.read_text()[-3000:]}")
            time.sleep(0.02)
        return found


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(SOCKET)


def ask(path: str) -> Any:
    """Return the daemon's answer to a GET; None while it does not answer."""
    connection = _UnixConnection("localhost")
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", path)
        reply = connection.getresponse()
        return json.loads(reply.read() or b"{}") if reply.status == 200 else None
    return None


def type_in(*words: str) -> tuple[int, list[dict[str, Any]]]:
    """Type one blocksnapctl command; return its exit code and the JSON documents it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "blocksnapctl", "--socket", SOCKET, "--json", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def restored(world: World, point_id: str) -> Iterator[Path]:
    """Restore a point to a file, without the daemon, and have its file system mounted."""
    image, root = REFERENCES / "restored.img", kit.MOUNT.parent / "restored"
    image.unlink(missing_ok=True)
    code, documents = type_in("--repo", f"{world.round}/repository", "restore", point_id, "--to",
                              str(image), "--key", f"{world.round}/keys/restore.key")  # fmt: skip
    assert code == 0, documents
    root.mkdir(exist_ok=True)
    kit.run("mount", "-o", "loop", str(image), str(root))
    try:
        yield root
    finally:
        kit.run("umount", str(root))


def bring_loopback_up() -> None:
    """Give the guest its 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        name_and_flags = struct.pack("16sh22x", b"lo", 1)  # struct ifreq, IFF_UP
        fcntl.ioctl(anything, 0x8914, name_and_flags)  # SIOCSIFFLAGS
