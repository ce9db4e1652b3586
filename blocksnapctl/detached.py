"""Exports that outlive the terminal they were started from: workers in sessions of their own. Edge.

Not the daemon but a private worker serves them: reading takes the private key, and nothing that
runs on a protected host all the time is to hold one. So the key stays with whoever started the
export, in memory, until it ends; it works as well where there is no daemon.

    $XDG_STATE_HOME/blocksnap/exports/NAME/     ~/.local/state without the variable
        control.sock    where the worker answers
        nbd.sock        where the export is, if nothing else was said
        log             what the worker says; locked as long as the worker lives

The lock goes with the open file, which the worker inherits: no process id can be mistaken for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO

from blocksnapctl.client import Client, ProblemError
from blocksnapctl.program import WorkerFailedError
from blocksnapctl.worker import Worker
from blocksnapd.control.messages import SCHEMA
from blocksnapd.errors import HostError, NotAllowedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from blocksnapctl.output import Output

LOG_NAME = "log"
LOCK_NAME = ".lock"
SAID_MAX = 4000  # characters of a log that are shown


class DetachedWorker(Worker):
    """A ``Worker`` that lives on when ``keep`` was called before the end of ``with``."""

    def __init__(
        self, repo: str, key: str, passphrase_file: str | None, *, program: Sequence[str]
    ) -> None:
        # It sits in no directory that somebody may want to unmount, so names must be whole.
        whole = repo if "://" in repo else os.path.abspath(repo)
        super().__init__(whole, os.path.abspath(key), passphrase_file, program=program)
        self._is_kept = False
        self._log: BinaryIO | None = None  # open until the worker has it

    def keep(self) -> None:
        """Leave the worker to itself: it ends a little after its last run."""
        self._is_kept = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_kept:
            super().__exit__(kind, error, trace)

    def _make_directory(self) -> str:
        place = exports_directory()
        try:
            os.makedirs(place, mode=0o700, exist_ok=True)
            with _locked(place):
                directory = tempfile.mkdtemp(prefix="", dir=place)
                self._log = open(os.path.join(directory, LOG_NAME), "w+b")  # noqa: SIM115
                fcntl.flock(self._log, fcntl.LOCK_SH)
        except OSError as error:
            raise HostError(
                f"no directory can be made in {place}: {error.strerror}",
                effect="Nothing was exported.",
                hint="Name one where you may write: XDG_STATE_HOME=DIR",
            ) from error
        return directory

    def _popen(self, argv: list[str], pass_fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        assert self._log is not None
        with self._log as log:
            return subprocess.Popen(
                [*argv, "--detached"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=log, pass_fds=pass_fds, start_new_session=True, cwd="/",
            )  # fmt: skip

    def _await_answer(self) -> None:
        try:
            super()._await_answer()
        except WorkerFailedError:
            with open(os.path.join(self._directory, LOG_NAME), errors="replace") as log:
                sys.stderr.write(log.read(SAID_MAX))
            raise


def exports_directory() -> str:
    """Return where the workers of whoever asks are."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "blocksnap", "exports")


def every_run(daemon: Client, volume: str | None, output: Output) -> dict[str, Any]:
    """Return the daemon's runs, of one volume or of all, and those of the workers that live.

    Raises:
        UnreachableError, NotAllowedError: the daemon does not answer, and there is no other run.
    """
    query = {"volume": volume} if volume else {}
    found: list[dict[str, Any]] = []
    for client in _clients():
        with contextlib.suppress(ProblemError, UnreachableError):
            found += client.get("runs", **query)["runs"]
    try:
        answer = daemon.get("runs", **query)
    except (UnreachableError, NotAllowedError) as error:
        if not found:
            raise
        output.say(f"Only exports are listed: {error.message}")
        answer = {"schema": SCHEMA, "runs": []}
    return {**answer, "runs": [*found, *answer["runs"]]}


def teller_of(daemon: Client, run_id: str) -> Client:
    """Return who knows a run: a worker that lives, or else perhaps the daemon."""
    for client in _clients():
        with contextlib.suppress(ProblemError, UnreachableError):
            client.get("runs", run_id)
            return client
    return daemon


def _clients() -> list[Client]:
    """Return who to ask, for each worker that lives; remove what those that ended left."""
    place = exports_directory()
    found = []
    try:
        with _locked(place):
            for name in sorted(os.listdir(place)):
                directory = os.path.join(place, name)
                if _is_alive(directory):
                    found.append(Client(os.path.join(directory, "control.sock")))
                elif os.path.isdir(directory):
                    shutil.rmtree(directory, ignore_errors=True)
    except OSError:
        return []  # there never was one
    return found


def _is_alive(directory: str) -> bool:
    try:
        with open(os.path.join(directory, LOG_NAME), "rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    # Where a lock does not go with an open file, as over NFS, whoever answers is alive.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.path.join(directory, "control.sock"))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _locked(place: str) -> Iterator[None]:
    """Let nobody else begin or clear away a worker's directory meanwhile."""
    with open(os.path.join(place, LOCK_NAME), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
