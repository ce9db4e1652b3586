"""The client's ``main`` in a thread, its streams caught, beside a server in the event loop."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from blocksnapctl.__main__ import main

FAKE_DAEMON = [sys.executable, str(Path(__file__).parent / "fake_daemon.py")]


class Called(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def call(*argv: str, tty: bool = False, **environ: str) -> Called:
    out, err = (Terminal(), Terminal()) if tty else (io.StringIO(), io.StringIO())
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(argv, environ=environ, program=FAKE_DAEMON)
        except SystemExit as end:
            code = int(end.code or 0)
    return Called(code, out.getvalue(), err.getvalue())


async def calling(*argv: str, tty: bool = False, **environ: str) -> Called:
    return await asyncio.to_thread(call, *argv, tty=tty, **environ)
