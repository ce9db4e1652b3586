"""A private daemon for one command: reads one repository with the operator's own key. Edge.

The running daemon holds no key that reads, and its sandbox may not write where the operator may.
So this client starts ``blocksnapd worker`` with the operator's rights and speaks to it as it
speaks to any daemon. The worker ends when its standard input closes: when we stop it, or die.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Self

from blocksnapctl.client import Client
from blocksnapctl.program import WorkerFailedError
from blocksnapd.errors import KeyMissingError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

START_TIMEOUT_S = 120.0  # opening a sealed key and a long history takes a while
STOP_TIMEOUT_S = 15.0
POLL_INTERVAL_S = 0.02
KEY_SIZE_MAX = 1 << 20


class Worker:
    """``with Worker(url, key) as client:``; the worker is gone after the outermost of them.

    Args:
        repo: the repository's URL.
        key: path of the private key's file.
        passphrase_file: where the key's passphrase is; None: ask on the terminal if needed.
        program: how to start the daemon program.
    """

    def __init__(
        self, repo: str, key: str, passphrase_file: str | None, *, program: Sequence[str]
    ) -> None:
        self._repo = repo
        self._key = key
        self._passphrase_file = passphrase_file
        self._program = program
        self._directory = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        if self._depth == 0:
            self._begin()
        self._depth += 1
        return self

    def _begin(self) -> None:
        passphrase = self._passphrase() if is_sealed(self._key) else None
        self._directory = self._make_directory()
        try:
            self._start(passphrase)
            self._await_answer()
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._stop()

    @property
    def client(self) -> Client:
        """Who asks the worker."""
        return Client(os.path.join(self._directory, "control.sock"))

    def _make_directory(self) -> str:
        return tempfile.mkdtemp(prefix="blocksnap-")

    def _popen(self, argv: list[str], pass_fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=pass_fds
        )

    def _passphrase(self) -> str:
        if self._passphrase_file is not None:
            try:
                with open(self._passphrase_file, encoding="utf-8") as file:
                    return file.readline(4096).rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise KeyMissingError(
                    f"cannot read the passphrase from {self._passphrase_file}: {error}",
                    effect="Nothing was read or written.",
                ) from error
        if not os.path.exists("/dev/tty") or not sys.stdin.isatty():
            raise KeyMissingError(
                f"{self._key} is sealed with a passphrase, and nobody is here to type it",
                effect="Nothing was read or written.",
                hint="Name a file that holds it: --passphrase-file FILE.",
            )
        import getpass

        return getpass.getpass(f"Passphrase of {self._key}: ")

    def _start(self, passphrase: str | None) -> None:
        where = os.path.join(self._directory, "control.sock")
        argv = [*self._program, "worker", "--socket", where, "--repo", self._repo]
        argv += ["--key", self._key]
        pass_fds: tuple[int, ...] = ()
        if passphrase is not None:
            reading, writing = os.pipe()
            os.write(writing, passphrase.encode() + b"\n")  # a pipe holds far more than this
            os.close(writing)
            argv += ["--passphrase-fd", str(reading)]
            pass_fds = (reading,)
        try:
            self._process = self._popen(argv, pass_fds)
        finally:
            for fd in pass_fds:
                os.close(fd)

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            exit_code = self._process.poll()
            if exit_code is not None:
                raise WorkerFailedError(exit_code if exit_code > 0 else 1)
            try:
                self.client.get("health", "live")
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_INTERVAL_S)
            else:
                return

    def _stop(self) -> None:
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def is_sealed(key: str) -> bool:
    """Say whether the key file takes a passphrase; what else is wrong with it the worker tells.

    Raises:
        KeyMissingError: it cannot be read.
    """
    try:
        with open(key, "rb") as file:
            found = json.loads(file.read(KEY_SIZE_MAX))
    except OSError as error:
        raise KeyMissingError(
            f"cannot read the key {key}: {error.strerror}",
            effect="Nothing was read or written.",
            hint="Name the restore.key that init made, from where it is kept.",
        ) from error
    except ValueError:
        return False
    return isinstance(found, dict) and "sealed" in found
