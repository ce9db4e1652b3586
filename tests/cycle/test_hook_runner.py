"""Hooks as plain processes: told, ended whole, run as their user. Units: in the lab."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.hook_runner import HookRunner
from blocksnapd.cycle.hook_text import Order

if TYPE_CHECKING:
    from blocksnapd.cycle.hook_text import End


ME = pwd.getpwuid(os.geteuid()).pw_name


class PlainRunner(HookRunner):
    """As on a host without systemd."""

    def uses_units(self) -> bool:
        return False


async def run(script: str, *, timeout_s: float = 20.0, user: str = ME) -> End:
    order = Order("x:sh", "after-snapshot", ("/bin/sh", "-c", script), user, timeout_s)
    return await PlainRunner().run(order, {"VOLUME": "vg0/x y"})


async def test_a_hook_is_told_and_has_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/secret")
    end = await run(f"env > {tmp_path}/env; pwd >> {tmp_path}/env; exit 3")
    told = (tmp_path / "env").read_text().splitlines()
    assert end.status == 3
    assert "BLOCKSNAP_VOLUME=vg0/x y" in told
    assert "BLOCKSNAP_HOOK=after-snapshot" in told
    assert "BLOCKSNAP_TIMEOUT=20" in told
    assert told[-1] == "/"
    assert not [line for line in told if "NOTIFY_SOCKET" in line]


async def test_what_it_complains_about_is_kept_by_its_end() -> None:
    end = await run("head -c 3000000 /dev/zero | tr '\\0' x; echo the reason >&2; exit 1")
    assert (end.status, end.said) == (1, "the reason")


async def test_at_the_timeout_all_of_it_is_killed(tmp_path: Path) -> None:
    """Also what ignores SIGTERM and what lets go of the pipes."""
    began = time.monotonic()
    end = await run(
        f"trap '' TERM; (trap '' TERM; sleep 1000 >/dev/null 2>&1) & echo $! > {tmp_path}/pid; "
        "sleep 1000",
        timeout_s=0.5,
    )
    assert end.status is None
    assert "did not end within" in end.sentence(Order("n", "a", ("/b",), "root", 0.5))
    assert time.monotonic() - began < 10
    await gone(int((tmp_path / "pid").read_text()))


async def test_what_a_hook_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    began = time.monotonic()
    end = await run(f"sleep 1000 & echo $! > {tmp_path}/pid")
    assert end.status == 0
    assert time.monotonic() - began < 10
    await gone(int((tmp_path / "pid").read_text()))


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pid} is still there")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_it_runs_as_its_user_with_that_users_groups() -> None:
    end = await run("id -un >&2; id -Gn >&2; echo $HOME >&2; exit 1", user="nobody")
    assert end.said == "nobody; nogroup; /nonexistent"


@pytest.mark.parametrize(
    ("program", "user", "words"),
    [
        ("/no/such/program", ME, "No such file"),
        ("/bin/sh", "no-such-user", "no user 'no-such-user'"),
        ("/etc/passwd", ME, "Permission denied"),
    ],
)
async def test_what_cannot_be_run_is_told(program: str, user: str, words: str) -> None:
    order = Order("x:y", "on-failure", (program,), user, 5.0)
    end = await PlainRunner().run(order, {})
    assert (end.status, end.is_well) == (None, False)
    assert words in end.sentence(order)
