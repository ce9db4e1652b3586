"""The guard's parts that need no device-mapper: the watch, the command, the protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import cast

import pytest

from blocksnapd.cycle.dm_ioctl import Control, DeviceInfo
from blocksnapd.cycle.guard import Child, Order, Watch, run
from blocksnapd.errors import DeviceMapperError


class Flag:
    """Answers ``info`` with the flags it was given, the last one for ever."""

    def __init__(self, *suspended: bool | None) -> None:
        self._left = list(suspended)

    def info(self, name: str) -> DeviceInfo | None:
        value = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if value is None:
            raise DeviceMapperError("out of memory")
        return DeviceInfo(name, "", 254, 0, value, True, False, False, 0, 0)

    def names(self) -> list[str]:
        return []


def watch(*suspended: bool | None) -> Watch:
    return Watch(cast("Control", Flag(*suspended)), "vg-data")


def order(*argv: str, suspend_s_max: float = 5.0, command_s_max: float = 20.0) -> Order:
    return Order(list(argv), dict(os.environ), "vg-data", [], suspend_s_max, command_s_max)


def test_a_window_is_measured_from_the_look_before_to_the_look_after() -> None:
    seen = watch(False, True, True, False)
    assert seen.look() == 0
    before = time.monotonic()
    assert seen.look() > 0
    assert seen.look() > 0
    assert seen.look() == 0
    assert 0 < seen.longest_s < time.monotonic() - before + 1
    assert seen.seen_at > 0


def test_a_window_that_no_look_met_counts_as_the_longest_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = iter([0.0, 1.0, 4.0, 5.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    seen = watch(False)
    for _ in range(3):
        seen.look()
    monkeypatch.undo()
    assert seen.longest_s == 3.0
    assert seen.seen_at == 0


def test_a_look_that_the_kernel_refuses_changes_nothing() -> None:
    seen = watch(True, None, False)
    assert seen.look() > 0
    assert seen.look() > 0
    assert seen.look() == 0


def test_the_command_is_run_to_its_end_and_its_words_are_kept() -> None:
    said = "import sys; print('out'); sys.stderr.write('err' * 20000); sys.exit(5)"
    report = run(order(sys.executable, "-c", said), cast("Control", Flag(False)), locked=False)
    assert (report.status, report.stdout, report.killed) == (5, "out\n", "")
    assert len(report.stderr) == 16 * 1024
    assert report.resumed == []


def test_a_command_that_runs_too_long_is_asked_and_then_ended() -> None:
    slow = order(sys.executable, "-c", "import time; time.sleep(60)", command_s_max=0.1)
    report = run(slow, cast("Control", Flag(False)), locked=False)
    assert report.status == -15
    assert report.duration_s < 10


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        Child(["/nonexistent/lvcreate"], {})


def test_the_command_reads_nothing_and_outlives_its_listener() -> None:
    child = Child([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"], {})
    while child.wait(0.05) is None:
        pass
    assert child.said()[0] == "''\n"


def test_started_as_a_program_without_device_mapper_it_says_so() -> None:
    """Also proves that it needs neither site-packages nor the libraries of the daemon."""
    wanted = {
        "argv": ["true"], "env": {}, "origin": "vg-data", "names": [], "suspend_s_max": 1.0,
        "command_s_max": 1.0,
    }  # fmt: skip
    argv = [sys.executable, "-S", "-P", "-m", "blocksnapd.cycle.guard"]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        argv, env={"PYTHONPATH": root}, input=json.dumps(wanted).encode() + b"\n",
        capture_output=True, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ("failed" in lines[-1]) == (done.returncode == 1)
    assert lines[-1].get("status") == 0 or "device-mapper here" in lines[-1]["failed"]


def test_it_imports_no_library_of_the_daemon() -> None:
    code = "import sys, blocksnapd.cycle.guard; print([m for m in sys.modules if '.' not in m])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "numpy" not in loaded.stdout
    assert "pydantic" not in loaded.stdout
    assert "asyncio" not in loaded.stdout
