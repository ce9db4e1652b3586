"""A protected host in a folder: the real daemon and the real command line, a file as the volume.

Nothing here needs root or device-mapper. Whatever any of the programs prints is searched for a
traceback: an operator must never see one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blocksnapctl.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20
LIMIT_S = 60.0  # for what takes a second on an idle machine
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

CONFIG = """\
schema = 1
[daemon]
state_dir = "{state}"
[control]
socket = "{socket}"
[metrics]
listen = []
[target.near]
url = "{repository}"
source_key = "{keys}/source.key"
[defaults]
every = "1h"
compression = {{ level = {compression} }}
retry = {{ first = "1h", max = "1h" }}
[volume."{image}"]
{more}"""


class Done(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """The lines of JSON it printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sentences(self) -> list[str]:
        """What it said to the operator, one sentence or more a line."""
        return [line.strip() for line in self.err.splitlines() if line.strip()]


class Site:
    """One host. ``user`` is what a command line starts with in order to be somebody else."""

    def __init__(self, *, user: Sequence[str] = ()) -> None:
        # Not pytest's folder: another user must come in, and a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="blocksnap-flow-"))
        self.user = tuple(user)
        os.chmod(self.folder, 0o777 if user else 0o755)
        self.image = self.folder / "disk.img"
        self.repository = self.folder / "repository"
        self.keys = self.folder / "keys"
        self.state = self.folder / "state"
        self.socket = self.folder / "run" / "control.sock"
        self.config = self.folder / "blocksnap.toml"
        self.log = self.folder / "daemon.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.client = Client(str(self.socket))

    def close(self) -> None:
        """End the daemon and remove everything."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        said = self.log.read_text() if self.log.exists() else ""
        shutil.rmtree(self.folder)
        assert "Traceback" not in said, said

    # --- what an administrator sets up ---------------------------------------------------------

    def write_image(self, *parts: tuple[int, bytes], size: int | None = None) -> None:
        """Write bytes at offsets of the volume; ``size`` makes it anew, all zeros, first."""
        with open(self.image, "wb" if size is not None else "r+b") as file:
            if size is not None:
                file.truncate(size)
            for offset, data in parts:
                file.seek(offset)
                file.write(data)
        os.chmod(self.image, 0o644)

    def write_config(self, more: str = "", *, compression: int = 1, **paths: Path) -> None:
        """Write the configuration; ``more`` goes on inside the volume's own table."""
        names = ("state", "socket", "repository", "keys", "image")
        places = {name: str(paths.get(name, getattr(self, name))) for name in names}
        self.config.write_text(CONFIG.format(**places, compression=compression, more=more))
        os.chmod(self.config, 0o644)

    def set_up(self, *, size: int = 4 * MIB, used: int = 0, compression: int = 1) -> bytes:
        """Make keys, repository, configuration and a volume; return the volume's content.

        ``used`` of its bytes, half of them when not given, are random, the rest is zero.
        """
        content = random.Random(1).randbytes(used or size // 2)
        self.write_image((0, content), size=size)
        self.write_config(compression=compression)
        done = self.ctl("init", str(self.repository), "--keys", str(self.keys))
        assert done.code == 0, done
        return content + bytes(size - len(content))

    # --- commands ------------------------------------------------------------------------------

    def ctl(self, *words: str, key: bool = False, user: Sequence[str] = ()) -> Done:
        """Run one blocksnapctl command; with ``key`` it gets restore.key."""
        more = ["--key", str(self.keys / "restore.key")] if key else []
        return self._run("blocksnapctl", *words, *more, user=user or self.user)

    def daemon_program(self, *words: str) -> Done:
        """Run one blocksnapd command to its end."""
        return self._run("blocksnapd", *words, user=self.user)

    def _run(self, module: str, *words: str, user: Sequence[str]) -> Done:
        found = subprocess.run(
            [*user, sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S,
            check=False, env={**os.environ, "BLOCKSNAP_SOCKET": str(self.socket)},
        )  # fmt: skip
        done = Done(found.returncode, found.stdout, found.stderr)
        assert "Traceback" not in done.out + done.err, done
        return done

    # --- the daemon ----------------------------------------------------------------------------

    def start(self, *, wrapper: Sequence[str] = (), config: Path | None = None) -> None:
        """Start the daemon; return once it is ready."""
        program = (sys.executable, "-m", "blocksnapd", "--config", str(config or self.config))
        self.daemon = started((*wrapper, *self.user, *program), self.log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the daemon a signal and wait for its end; return its exit code."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        code = self.daemon.wait(LIMIT_S)
        self.daemon = None
        return code

    def hold(self) -> None:
        """Stop the daemon where it stands, as a machine does that is put to sleep."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End ``hold``."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGCONT)

    def hold_while_it_ships(self, share: float) -> None:
        """Hold the daemon once its run has dealt with such a share of what it has to."""

        def is_there() -> bool:
            run = self.volume()["active_run"] or {}
            return bool(run.get("done_bytes", 0) > share * run.get("expected_bytes", 1 << 62))

        self.until(is_there)
        self.hold()

    def packs(self) -> set[Path]:
        """The packs in the repository, named by a point or not."""
        return set(self.repository.glob("v/*/d/*/*.pk"))

    def run(self, **request: Any) -> dict[str, Any]:
        """Ask for a point of the volume; return the run once it is done."""
        body = {"kind": "cycle", "volume": str(self.image), **request}
        started = self.client.post("runs", body=body)
        return dict(self.client.get("runs", started["id"], wait="25s"))

    def points(self) -> list[dict[str, Any]]:
        """The points the daemon knows, oldest first."""
        found: list[dict[str, Any]] = self.client.get("points")["points"]
        return found

    def volume(self, name: str = "") -> dict[str, Any]:
        """One volume as status tells it."""
        return self.client.get("volumes", name or str(self.image))

    def until_done(self, name: str = "") -> dict[str, Any]:
        """Wait until the volume has no run under way; return it."""
        return dict(self.until(lambda: self._idle(name or str(self.image))))

    def _idle(self, name: str) -> dict[str, Any] | None:
        found = dict(self.volume(name))
        return found if found["last_run"] and not found["active_run"] else None

    def until(self, condition: Callable[[], Any]) -> Any:
        """Return what ``condition`` gives once that is something."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := condition()):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        return found

    # --- giving back ---------------------------------------------------------------------------

    def restored(self, point: str, *words: str) -> bytes:
        """Restore a point with restore.key; return its content."""
        to = self.folder / "restored.img"
        to.unlink(missing_ok=True)
        done = self.ctl("restore", point, "--to", str(to), *words, key=True)
        assert done.code == 0, done
        return to.read_bytes()

    def point_objects(self) -> list[Path]:
        """The committed points in the repository."""
        return sorted(self.repository.glob("v/*/p/*.pt"))


def started(argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that goes on, which writes to ``log``; return it once it is ready."""
    place = log.with_suffix(".notify")
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, open(log, "ab") as said:
        notified.bind(str(place))
        os.chmod(place, 0o666)
        notified.settimeout(0.5)
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, "NOTIFY_SOCKET": str(place)},
        )  # fmt: skip
        try:
            _until_ready(process, notified, log)
        except BaseException:
            process.kill()
            process.wait()
            raise
    return process


def _until_ready(process: subprocess.Popen[bytes], notified: socket.socket, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if b"READY=1" in notified.recv(4096):
                return
        except TimeoutError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()


def told(done: Done, code: int, *parts: str) -> None:
    """Assert an exit code and a message of cause, effect and next step that has ``parts``."""
    assert done.code == code, done
    assert len(done.sentences) >= 3, done.err
    for part in parts:
        assert part in done.err, done.err


def explained(problem: dict[str, Any], code: str, *parts: str) -> None:
    """Assert that a problem, of a run or of status, has its code and all three parts."""
    assert problem["code"] == code, problem
    text = [problem["message"], problem["effect"], problem["hint"]]
    assert all(text), problem
    for part in parts:
        assert part in " ".join(text), problem
