"""Programs run with a deadline, bounded, and remembered."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import HostError
from blocksnapd.runtime import process
from blocksnapd.runtime.process import FlightRecorder, run

if TYPE_CHECKING:
    from pathlib import Path


def wait_for(flag: Path) -> None:
    deadline = time.monotonic() + 20
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def python(code: str, **more: object) -> process.Finished:
    return await run([sys.executable, "-c", code], **{"timeout_s": 20.0, **more})  # type: ignore[arg-type]


async def test_status_output_and_locale() -> None:
    recorder = FlightRecorder()
    code = "import os, sys; print(os.environ['LC_ALL'], sys.stdin.read()); sys.exit('bad')"
    done = await python(code, recorder=recorder)
    assert (done.status, done.stdout, done.said) == (1, "C \n", "bad")
    assert recorder.runs() == [done]
    assert "=> 1 in" in next(iter(recorder.lines()))


async def test_the_environment_can_be_added_to() -> None:
    done = await python("import os; print(os.environ['X'])", environment={"X": "y"})
    assert done.stdout == "y\n"


async def test_a_program_over_its_deadline_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(HostError, match="did not end within"):
        await python("import time; time.sleep(60)", timeout_s=0.3)
    assert time.monotonic() - started < 10


async def test_a_cancelled_caller_leaves_no_program_behind(tmp_path: Path) -> None:
    flag = tmp_path / "runs"
    code = f"import time; open({str(flag)!r}, 'w'); time.sleep(60)"
    task = asyncio.create_task(python(code))
    await asyncio.to_thread(wait_for, flag)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 10


async def test_endless_output_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "OUTPUT_SIZE_MAX", 100_000)
    with pytest.raises(HostError, match="more than 100000 bytes"):
        await python("while True: print('x' * 1000)")


async def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        await run(["/nonexistent/program"], timeout_s=5)


async def test_the_recorder_forgets_the_oldest_and_cuts_long_words() -> None:
    recorder = FlightRecorder(count_max=2)
    for index in range(3):
        recorder.add(process.Finished((f"p{index}",), 0, "x" * 9999, "", 0.0))
    assert [run.argv[0] for run in recorder.runs()] == ["p1", "p2"]
    assert len(recorder.runs()[0].stdout) == process.RECORDED_TEXT_MAX
