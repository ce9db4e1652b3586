"""Hooks around a volume's cycles: real programs, which write down when they ran and what for."""

from __future__ import annotations

import asyncio
import functools
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.config import Hook
from blocksnapd.errors import SpaceError, VolumeError
from tests.service.bench import EVERY_S, SETTINGS, Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Bench]

ME = pwd.getpwuid(os.geteuid()).pw_name
CRASH, APPLICATION = "crash", "application"
BEFORE, AFTER, FAILED = "before-snapshot", "after-snapshot", "on-failure"


class Scripts:
    """A directory of hooks; each adds a line to ``log``, then does what its script says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.log.touch()

    def hook(self, name: str, at: str, script: str = "", **more: Any) -> Hook:
        program = self.path / name
        program.write_text(
            f"#!/bin/sh\necho {name} ${{BLOCKSNAP_RESULT:--}} >> {self.log}\n"
            f"env > {self.path}/{name}.env\n{script}\n"
        )
        program.chmod(0o755)
        table = {"at": at, "run": [str(program)], "user": ME, "timeout": "20s", **more}
        return Hook.model_validate(table)

    @property
    def ran(self) -> list[str]:
        return self.log.read_text().splitlines()

    def told(self, name: str) -> dict[str, str]:
        lines = (self.path / f"{name}.env").read_text().splitlines()
        pairs = (line.partition("=") for line in lines if line.startswith("BLOCKSNAP_"))
        return {key.removeprefix("BLOCKSNAP_"): value for key, _, value in pairs}


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    path = tmp_path / "hooks"
    path.mkdir()
    return Scripts(path)


@pytest.fixture
async def make(tmp_path: Path) -> Make:
    """Return what makes a bench with these hooks."""
    return functools.partial(bench_of, tmp_path)


def bench_of(path: Path, *hooks: Hook) -> Bench:
    return Bench(path, settings=SETTINGS.model_copy(update={"hooks": hooks}))


def events(bench: Bench, kind: str) -> list[str]:
    return [message for name, _, message in bench.events if name == kind]


def consistencies(bench: Bench) -> list[str]:
    return [kept.point.facts.consistency for kept in bench.store.kept]


def failures(bench: Bench, hook: str) -> float | None:
    return bench.metric("hook_failures_total", volume="vg0/home", hook=hook)


async def test_around_the_snapshot_in_order_and_told_what_for(make: Make, scripts: Scripts) -> None:
    bench = make(
        scripts.hook("release", AFTER),
        scripts.hook("freeze", BEFORE), scripts.hook("flush", BEFORE),
        scripts.hook("cry", FAILED),
    )  # fmt: skip
    async with bench.running():
        run = await bench.idle()
    assert run is not None
    assert scripts.ran == ["freeze -", "flush -", "release taken"]
    point = bench.store.kept[0].point.facts
    assert (run.result, point.consistency) == ("success", APPLICATION)
    told = scripts.told("freeze")
    assert told.pop("TIMEOUT") == "20"
    assert told == {
        "VOLUME": "vg0/home", "DEVICE": "/dev/vg0/home", "TARGET": "near", "RUN": run.run_id,
        "POINT": point.point_id, "HOOK": BEFORE,
    }  # fmt: skip
    assert scripts.told("release")["RESULT"] == "taken"
    assert float(scripts.told("release")["SUSPEND_SECONDS"]) >= 0
    name = "before-snapshot:freeze"
    assert bench.metric("hook_duration_seconds_count", volume="vg0/home", hook=name) == 1
    assert failures(bench, name) == 0
    assert run.phases["hook"] > 0


async def test_every_series_exists_from_the_start(make: Make, scripts: Scripts) -> None:
    bench = make(scripts.hook("freeze", BEFORE))
    assert failures(bench, "before-snapshot:freeze") is None  # nobody configured the metrics yet
    bench.metrics.hook("vg0/home", "before-snapshot:freeze", 0.1, failed=True)
    assert failures(bench, "before-snapshot:freeze") == 1


async def test_a_failed_hook_costs_the_consistency_not_the_point(
    make: Make, scripts: Scripts
) -> None:
    bench = make(
        scripts.hook("freeze", BEFORE, "echo no such role >&2; exit 3"),
        scripts.hook("flush", BEFORE), scripts.hook("release", AFTER),
    )  # fmt: skip
    async with bench.running():
        run = await bench.idle()
    assert run is not None
    assert scripts.ran == ["freeze -", "flush -", "release taken"]
    assert (run.result, consistencies(bench)) == ("warning", [CRASH])
    (message,) = events(bench, "hook-failed")
    assert "status 3: no such role" in message
    assert run.warnings == [message]
    assert failures(bench, "before-snapshot:freeze") == 1
    assert failures(bench, "before-snapshot:flush") == 0


async def test_a_failure_after_the_snapshot_costs_the_consistency_too(
    make: Make, scripts: Scripts
) -> None:
    """As of a lock that was lost while the snapshot was taken."""
    bench = make(scripts.hook("freeze", BEFORE), scripts.hook("release", AFTER, "exit 1"))
    async with bench.running():
        await bench.idle()
    assert consistencies(bench) == [CRASH]


async def test_without_a_hook_before_it_nothing_is_claimed(make: Make, scripts: Scripts) -> None:
    bench = make(scripts.hook("release", AFTER))
    async with bench.running():
        await bench.idle()
    assert consistencies(bench) == [CRASH]


@pytest.mark.parametrize("status", [75, 3])
async def test_a_run_is_skipped_quietly(make: Make, scripts: Scripts, status: int) -> None:
    """By status 75 in any case, by a failure with skip-run; what is held is let go."""
    on_error = "fail-run" if status == 75 else "skip-run"
    bench = make(
        scripts.hook("freeze", BEFORE, f"exit {status}", on_error=on_error),
        scripts.hook("flush", BEFORE),
        scripts.hook("thaw", AFTER, always=True), scripts.hook("note", AFTER),
        scripts.hook("cry", FAILED),
    )  # fmt: skip
    async with bench.running():
        run = await bench.idle()
        assert run is not None
        assert (run.result, run.error, bench.task.failures) == ("skipped", None, 0)
        assert scripts.ran == ["freeze -", "thaw none"]
        assert (bench.store.kept, bench.host.snapshots) == ([], {})
        assert bench.task.next_due_in_s() == EVERY_S  # not a retry
    assert len(events(bench, "hook-failed")) == (status != 75)


async def test_a_run_fails_when_that_is_wanted(make: Make, scripts: Scripts) -> None:
    bench = make(
        scripts.hook("freeze", BEFORE, "exit 3", on_error="fail-run"),
        scripts.hook("thaw", AFTER, always=True), scripts.hook("cry", FAILED),
    )  # fmt: skip
    async with bench.running():
        run = await bench.idle()
        assert run is not None
        assert (run.result, bench.task.failures, bench.host.snapshots) == ("failed", 1, {})
        assert run.error is not None
        assert run.error["code"] == "E-HOOK"
        assert scripts.ran == ["freeze -", "thaw none", "cry -"]
    assert scripts.told("cry")["CODE"] == "E-HOOK"
    assert "freeze" in scripts.told("cry")["MESSAGE"]


@pytest.mark.parametrize(("status", "result"), [(3, "failed"), (75, "skipped")])
async def test_no_point_is_made_of_a_snapshot_a_hook_refuses(
    make: Make, scripts: Scripts, status: int, result: str
) -> None:
    bench = make(scripts.hook("check", AFTER, f"exit {status}", on_error="fail-run"))
    async with bench.running():
        run = await bench.idle()
        assert run is not None
        assert (run.result, bench.store.kept, bench.host.snapshots) == (result, [], {})


async def test_what_is_held_is_let_go_when_there_is_no_snapshot(
    make: Make, scripts: Scripts
) -> None:
    bench = make(
        scripts.hook("freeze", BEFORE), scripts.hook("note", AFTER),
        scripts.hook("thaw", AFTER, always=True),
    )  # fmt: skip
    bench.take_trouble = no_room
    async with bench.running():
        run = await bench.idle()
    assert run is not None
    assert (run.result, run.error and run.error["code"]) == ("failed", "E-COW-SPACE")
    assert scripts.ran == ["freeze -", "thaw none"]


def no_room() -> None:
    raise SpaceError("no room", effect="e", hint="h")


async def hold_and_die(path: str, where: str) -> None:
    """Run a daemon that is killed in the hook before the snapshot, in it, or in the one after."""
    scripts = Scripts(Path(path) / "hooks")
    death = {where: "kill -9 $PPID"}
    bench = bench_of(
        Path(path), scripts.hook("freeze", BEFORE, death.get("freeze", "")),
        scripts.hook("thaw", AFTER, death.get("thaw", ""), always=True),
    )  # fmt: skip
    if where == "snapshot":
        bench.take_trouble = lambda: os.kill(os.getpid(), signal.SIGKILL)
    await bench.task.run()


@pytest.mark.parametrize("where", ["freeze", "snapshot", "thaw"])
async def test_what_a_killed_daemon_left_held_is_let_go_before_all_else(
    tmp_path: Path, scripts: Scripts, where: str
) -> None:
    """The next start needs neither host nor target for it, nor the hook in the configuration."""
    code = "import asyncio, sys; from tests.service.test_hooks import hold_and_die as h; "
    code += "asyncio.run(h(*sys.argv[1:]))"
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, str(tmp_path), where], check=False, timeout=60
    )
    assert died.returncode == -signal.SIGKILL
    assert scripts.ran == ["freeze -"] + ["thaw taken"] * (where == "thaw")
    scripts.log.write_text("")
    scripts.hook("thaw", AFTER)
    bench = bench_of(tmp_path)
    bench.closed = VolumeError("the group is incomplete", effect="e", hint="h")
    await bench.task.open()
    assert scripts.ran == ["thaw unknown"]
    assert "after-snapshot:thaw" in events(bench, "hook-owed")[0]
    await bench.task.open()
    assert scripts.ran == ["thaw unknown"]  # once


async def test_what_does_not_let_go_is_tried_again_until_it_does(
    make: Make, scripts: Scripts
) -> None:
    bench = make(scripts.hook("freeze", BEFORE), scripts.hook("thaw", AFTER, "exit 1", always=True))
    async with bench.running():
        await bench.idle()
        scripts.log.write_text("")
        scripts.hook("thaw", AFTER)  # it has been repaired
        await bench.pass_time(EVERY_S)
        assert scripts.ran == ["thaw unknown", "freeze -", "thaw taken"]
        scripts.log.write_text("")
        await bench.pass_time(EVERY_S)
        assert scripts.ran == ["freeze -", "thaw taken"]
    assert consistencies(bench) == [CRASH, APPLICATION, APPLICATION]


async def test_nothing_is_held_that_could_not_be_noted(
    make: Make, scripts: Scripts, tmp_path: Path
) -> None:
    bench = make(scripts.hook("freeze", BEFORE), scripts.hook("thaw", AFTER, always=True))
    (tmp_path / "vg0-home" / "hooks").mkdir(parents=True)  # where the record has to be
    async with bench.running():
        run = await bench.idle()
    assert run is not None
    assert (run.result, run.error and run.error["code"]) == ("failed", "E-HOOK")
    assert scripts.ran == ["thaw none"]


async def test_a_hook_over_its_time_holds_nothing_up(make: Make, scripts: Scripts) -> None:
    bench = make(
        scripts.hook("freeze", BEFORE, "sleep 1000", timeout="300ms"),
        scripts.hook("thaw", AFTER, always=True),
    )
    began = time.monotonic()
    async with bench.running():
        run = await bench.idle()
    assert run is not None
    assert time.monotonic() - began < 15
    assert (run.result, consistencies(bench)) == ("warning", [CRASH])
    assert "did not end within" in events(bench, "hook-failed")[0]
    assert scripts.ran == ["freeze -", "thaw taken"]


async def test_consistency_outlives_a_stop_between_snapshot_and_commit(
    make: Make, scripts: Scripts
) -> None:
    bench = make(scripts.hook("freeze", BEFORE))
    bench.store.go.clear()
    async with bench.running() as task:
        await bench.shipping()
        task.stop()
    assert bench.store.kept == []
    bench.settings = SETTINGS  # without hooks, so that it can only come from the journal
    bench.new_task()
    async with bench.running():
        await bench.idle()
    assert consistencies(bench) == [APPLICATION, CRASH]
