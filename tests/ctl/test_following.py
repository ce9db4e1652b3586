"""Seeing a run through to its end: progress, exit codes, interruptions."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BusyError, ChecksumError, RefusedError, StoreFullError
from tests.control.serving import serving
from tests.ctl.calling import calling

if TYPE_CHECKING:
    from blocksnapd.control.messages import RunResult
    from blocksnapd.errors import BlocksnapError

DONE = {"state": "done", "result": "success", "point": "p9", "changed_bytes": 1, "duration": 2.0}


async def test_run_and_wait() -> None:
    async with serving() as served:
        served.operations.script = [
            {"phase": "transfer", "done_bytes": 50, "expected_bytes": 100, "rate": 10.0, "eta": 5},
            DONE,
        ]
        found = await calling("run", "vg0/home", "--wait", "--socket", served.path, tty=True,
                              TERM="xterm")  # fmt: skip
        assert found.code == 0
        assert "run r00000001  vg0/home → near  success in 2.0s" in found.out
        assert "transfer  50 B of 100 B  50%  10 B/s  ETA 5.0s" in found.err
        served.operations.script = [DONE]
        found = await calling("run", "vg0/home", "--wait", "--json", "--socket", served.path)
        assert [line["state"] for line in found.lines] == ["running", "done"]
        assert found.err == ""


@pytest.mark.parametrize(
    ("result", "error", "code"),
    [
        ("success", None, 0),
        ("skipped", None, 0),
        ("warning", None, 13),
        ("failed", StoreFullError("no room", hint="Make room."), 1),
        ("failed", ChecksumError("bad"), 14),
        ("failed", RefusedError("no"), 12),
        ("failed", BusyError("later"), 75),
        ("failed", None, 1),
        ("cancelled", None, 130),
    ],
)
async def test_the_exit_code_is_the_run_s(
    result: RunResult, error: BlocksnapError | None, code: int
) -> None:
    async with serving() as served:
        waiting = asyncio.create_task(
            calling("run", "vg0/home", "--wait", "--json", "--socket", served.path)
        )
        while not served.operations.streams_open:
            await served.get("/v1/health/live")
        await served.operations.finish("r00000001", result, error)
        found = await waiting
        assert found.code == code
        if error:
            assert found.lines[-1]["type"] == "error"
            assert found.lines[-1]["code"] == error.code
            assert error.message in found.err


async def test_waiting_has_an_end() -> None:
    async with serving() as served:
        found = await calling("run", "vg0/home", "--wait", "--timeout", "100ms", "--json",
                              "--socket", served.path)  # fmt: skip
        assert found.code == 124
        assert found.lines[-1]["code"] == "E-WAIT"
        assert "It goes on. Look: blocksnapctl show r00000001" in found.err


async def test_the_daemon_ends_while_we_wait() -> None:
    async with serving() as served:
        waiting = asyncio.create_task(calling("run", "vg0/home", "--wait", "--socket", served.path))
        while not served.operations.streams_open:
            await served.get("/v1/health/live")
        await served.server.stop()
        found = await waiting
        assert found.code == 10
        assert "ended before run r00000001 was done" in found.err


async def test_interrupted_while_waiting() -> None:
    async with serving() as served:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "blocksnapctl", "run", "vg0/home", "--wait", "--socket",
            served.path, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            # Whoever starts the tests in the background makes their children ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        while not served.operations.streams_open:
            await served.get("/v1/health/live")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        assert b"goes on" in err
        assert b"Traceback" not in err
