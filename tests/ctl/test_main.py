"""The program as a whole: usage, help, colours, weight, verbs that are passed on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.control.serving import run_command, serving
from tests.ctl.calling import FAKE_DAEMON, call, calling

if TYPE_CHECKING:
    from pathlib import Path


def test_no_daemon() -> None:
    found = call("status", "--socket", "/nowhere/x.sock")
    assert found.code == 10
    assert "no daemon answers on /nowhere/x.sock: No such file or directory" in found.err
    assert "systemctl start blocksnapd" in found.err
    document = call("status", "--socket", "/nowhere/x.sock", "--json")
    assert (document.code, document.lines[-1]["type"]) == (10, "error")
    assert document.lines[-1]["code"] == "E-UNREACHABLE"


@pytest.mark.parametrize(
    "argv", [[], ["nothing"], ["run"], ["restore", "p1", "--to"], ["status", "--nonsense"],
             ["run", "v", "--timeout", "soon"], ["events", "--since", "x"], ["stat"]],
)  # fmt: skip
def test_usage(argv: list[str]) -> None:
    found = call(*argv)
    assert (found.code, found.out) == (2, "")
    assert "usage: blocksnapctl" in found.err


def test_help_and_version() -> None:
    assert "0 done, 1 failed" in call("--help").out
    assert call("restore", "--help").code == 0
    assert call("--version").out.startswith("blocksnapctl ")


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
        (["--json", "--plain", "volumes"], "volumes --json --plain"),
        (["init", "--help"], "init --help"),
        (["config", "check", "--config", "/x"], "config check --config /x"),
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
