"""A person at a terminal: waits for a question, types an answer. Edge."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

from tests.flow.kit import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Mapping


class Terminal:
    """Runs blocksnapctl on a terminal of its own, ``with Terminal(...) as terminal``."""

    def __init__(self, *words: str, env: Mapping[str, str], cwd: str) -> None:
        self._ours, theirs = pty.openpty()
        self.said = ""
        self._seen = 0
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "blocksnapctl", *words],
                stdin=theirs, stdout=theirs, stderr=theirs, env=dict(env), cwd=cwd,
                start_new_session=True,
                # A passphrase is asked for on the terminal that controls the session.
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
        finally:
            os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def answer(self, question: str, text: str) -> None:
        """Wait until ``question`` stands there, after what was answered last; type ``text``."""
        deadline = time.monotonic() + LIMIT_S
        while question not in self.said[self._seen :]:
            assert self._more(deadline), f"{question!r} never came:\n{self.said}"
        self._seen = len(self.said)
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        """Return the exit code once it ended."""
        deadline = time.monotonic() + LIMIT_S
        while self._more(deadline):
            pass
        return self.process.wait(LIMIT_S)

    def _more(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        assert left > 0, self.said
        if not select.select([self._ours], [], [], left)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # what a terminal gives whose last user is gone
            return False
        self.said += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)
