"""The client from end to end: its own ``main`` against a real server on a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BusyError, ChecksumError, RefusedError, StoreFullError
from tests.control.serving import run_command, serving
from tests.ctl.calling import FAKE_DAEMON, call, calling

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import RunResult
    from blocksnapd.errors import BlocksnapError

DONE = {"state": "done", "result": "success", "point": "p9", "changed_bytes": 1, "duration": 2.0}


async def test_status_three_ways() -> None:
    async with serving() as served:
        text = await calling("status", "--socket", served.path)
        assert text.code == 0
        assert text.err == ""
        assert "db01" in text.out
        assert "protected" in text.out
        document = await calling("status", "--json", BLOCKSNAP_SOCKET=served.path)
        assert document.lines[0]["volumes"][0]["volume"] == "vg0/home"
        plain = await calling("--plain", "--socket", served.path, "status", "vg0/home")
        assert plain.out.split("\t")[:4] == ["vg0/home", "protected", "72", "600"]


async def test_status_of_an_unknown_volume() -> None:
    async with serving() as served:
        found = await calling("status", "vg0/x", "--socket", served.path)
        assert (found.code, found.out) == (11, "")
        assert "no volume 'vg0/x' is configured [E-NOT-FOUND]" in found.err
        assert "Configured are: vg0/home, /srv/disk image.raw." in found.err


def test_no_daemon() -> None:
    found = call("status", "--socket", "/nowhere/x.sock")
    assert found.code == 10
    assert "no daemon answers on /nowhere/x.sock: No such file or directory" in found.err
    assert "systemctl start blocksnapd" in found.err
    document = call("status", "--socket", "/nowhere/x.sock", "--json")
    assert (document.code, document.lines[-1]["type"]) == (10, "error")
    assert document.lines[-1]["code"] == "E-UNREACHABLE"


@pytest.mark.parametrize(
    "argv", [[], ["nothing"], ["run"], ["restore", "p1"], ["status", "--nonsense"],
             ["run", "v", "--timeout", "soon"], ["events", "--since", "x"], ["stat"]],
)  # fmt: skip
def test_usage(argv: list[str]) -> None:
    found = call(*argv)
    assert (found.code, found.out) == (2, "")
    assert "usage: blocksnapctl" in found.err


def test_help_and_version() -> None:
    assert "exit codes: 0 done, 1 failed" in call("--help").out
    assert call("restore", "--help").code == 0
    assert call("--version").out.startswith("blocksnapctl ")


async def test_points() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("points", "vg0/home", *args, "--plain")
        assert [line.split("\t")[1] for line in found.out.splitlines()] == ["vg0/home"] * 3
        found = await calling("points", *args, "--json")
        assert len(found.lines[0]["points"]) == 4
        assert "p0002" in (await calling("points", *args)).out
        served.operations.known.clear()
        found = await calling("points", *args)
        assert (found.code, found.out, found.err) == (0, "", "There is no point yet.\n")


async def test_show_a_point_or_a_run() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("show", "p0002", *args)
        assert "2026-11-22T14:00:00.000Z" in found.out
        assert "1073741824 (1.0 GiB)" in found.out
        found = await calling("show", "vg0/home@2026-11-22T14:00", *args)
        assert "read as UTC" in found.out
        started = await calling("run", "vg0/home", *args, "--json")
        run_id = started.lines[0]["id"]
        assert f"id              {run_id}" in (await calling("show", run_id, *args)).out
        assert (await calling("show", "r404", *args)).code == 11
        assert (await calling("show", "p", *args)).code == 2


async def test_run_without_waiting() -> None:
    async with serving() as served:
        found = await calling(
            "trigger", "vg0/home", "--tag", "a", "--full", "--socket", served.path
        )
        assert (found.code, found.out) == (0, "run r00000001  vg0/home  started\n")
        assert "blocksnapctl show r00000001" in found.err
        request, _ = served.operations.asked[0]
        assert request == {"kind": "cycle", "volume": "vg0/home", "tags": ["a"], "full": True}
        found = await calling("run", "vg0/home", "--tag", "b", "--socket", served.path)
        assert found.out == "run r00000001  vg0/home  joined\n"
        assert "do not apply" in found.err
        assert (await calling("run", "vg0/x", "--socket", served.path)).code == 11
        assert (await calling("run", "vg0/home", "-q", "--socket", served.path)).err == ""


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


async def test_of_several_the_worst_counts() -> None:
    async with serving() as served:
        served.operations.script = [{"state": "done", "result": "warning", "duration": 1.0}]
        found = await calling("run", "vg0/home", "/srv/disk image.raw", "--wait", "--socket",
                              served.path)  # fmt: skip
        assert found.code == 13
        assert found.out.count("warning in") == 2


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
        )  # fmt: skip
        while not served.operations.streams_open:
            await served.get("/v1/health/live")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        assert b"goes on" in err
        assert b"Traceback" not in err


async def test_runs_and_cancel() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        assert "no run since" in (await calling("runs", *args)).err
        await calling("run", "vg0/home", *args)
        found = await calling("cancel", "r00000001", *args)
        assert (found.code, found.out) == (0, "run r00000001  vg0/home  asked to stop\n")
        assert "cancelled" in (await calling("runs", *args)).out
        found = await calling("runs", "vg0/home", "--plain", *args)
        assert found.out.startswith("r00000001\tcycle\tvg0/home\tdone\tcancelled\t")
        assert (await calling("runs", "--json", *args)).lines[0]["runs"][0]["id"] == "r00000001"
        assert (await calling("cancel", "r404", *args)).code == 11


async def test_events() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        for number in range(60):
            await served.operations.say(f"number {number}", severity="warning")
        found = await calling("events", *args)
        assert len(found.out.splitlines()) == 50
        assert found.out.splitlines()[-1].endswith("warning vg0/home point - number 59")
        found = await calling("events", "--since", "58", "--json", *args)
        assert [event["seq"] for event in found.lines] == [59, 60]
        found = await calling("events", "--since", "59", "--plain", *args)
        assert found.out.split("\t")[0] == "60"


async def test_following_events_until_the_daemon_ends() -> None:
    async with serving() as served:
        await served.operations.say("one")
        following = asyncio.create_task(calling("events", "-f", "--socket", served.path))
        while not served.operations.streams_open:
            await served.get("/v1/health/live")
        await served.server.stop()
        found = await following
        assert found.code == 10
        assert "blocksnapctl events --follow --since 1" in found.err


async def test_watching_events_for_a_while() -> None:
    async with serving() as served:
        await served.operations.say("one")
        found = await calling("events", "-f", "--timeout", "50ms", "--socket", served.path)
        assert found.code == 0


async def test_colours_only_where_they_can_be_shown() -> None:
    async with serving() as served:
        args = ("status", "--socket", served.path)
        assert "\x1b[32mprotected" in (await calling(*args, tty=True, TERM="xterm")).out
        for environ in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
            assert "\x1b" not in (await calling(*args, tty=True, **environ)).out
        for more in (["--no-color"], ["--plain"], ["--json"]):
            assert "\x1b" not in (await calling(*args, *more, tty=True, TERM="xterm")).out
        assert "\x1b" not in (await calling(*args, TERM="xterm")).out


HEAVY = ("aiohttp", "numpy", "pydantic", "asyncio", "rich", "subprocess", "dataclasses")
MEASURE = """
import resource, sys
from blocksnapctl.__main__ import main
code = main(["status", "--socket", sys.argv[1]])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, *sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


async def test_status_is_light() -> None:
    """At most 150 ms of CPU, start-up included: the best of three on a loaded machine."""
    async with serving() as served:
        spent = []
        for _ in range(3):
            code, _, err = await run_command(sys.executable, "-c", MEASURE, served.path)
            assert code == 0
            cpu, *modules = err.split()
            spent.append(float(cpu))
            assert not set(HEAVY) & set(modules)
    assert min(spent) < 0.150, spent


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    command = f"{sys.executable} -m blocksnapctl --help | true"
    done = subprocess.run(command, shell=True, capture_output=True, check=False, timeout=60)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["doctor", "--fix"], "doctor --fix"),
        (["--socket", "status", "doctor"], "doctor"),
        (["-v", "cow", "create", "--json", "x"], "cow create --json x"),
        (["init", "--help"], "init --help"),
        (["check", "--config", "/x"], "check --config /x"),
    ],
)
def test_verbs_of_the_daemon_are_passed_on(argv: list[str], wanted: str) -> None:
    code = (
        "import sys; from blocksnapctl.__main__ import main; "
        f"sys.exit(main({argv!r}, program={FAKE_DAEMON!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"{wanted}\n"), done.stderr
    assert os.path.exists(FAKE_DAEMON[1])
