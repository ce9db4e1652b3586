"""What systemd would receive, on a real datagram socket; sockets as systemd hands them in."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blocksnapd.runtime import notify
from blocksnapd.runtime.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def heard(receiver: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(receiver.recv(4096).decode())
        except BlockingIOError:
            return found


def test_states(systemd: socket.socket) -> None:
    notify.extend_timeout(1.5)
    notify.ready("3 protected,\n1 late")
    notify.status("x" * 1000)
    notify.stopping()
    assert heard(systemd) == [
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=3 protected, 1 late",
        "STATUS=" + "x" * 200,
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    notify.ready("fine")
    assert notify.listen_sockets() == []


@pytest.mark.parametrize(
    ("usec", "pid", "wanted"),
    [("60000000", "", 60.0), ("60000000", "me", 60.0), ("60000000", "1", None), ("", "", None),
     ("0", "", None), ("x", "", None)],
)  # fmt: skip
def test_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, wanted: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "me" else pid)
    assert notify.watchdog_interval_s() == wanted


async def test_watchdog_is_fed_while_alive(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    clock, alive = ManualClock(), True
    task = asyncio.create_task(notify.feed_watchdog(clock, lambda: alive))
    await clock.advance(29)
    assert heard(systemd) == ["WATCHDOG=1"] * 3
    alive = False
    await clock.advance(60)
    assert heard(systemd) == []
    alive = True
    await clock.advance(10)
    assert heard(systemd) == ["WATCHDOG=1"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


HANDED_IN = """
import os, sys
from blocksnapd.runtime import notify
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
print([s.getsockname() for s in notify.listen_sockets()], notify.listen_sockets())
"""


def test_sockets_handed_in_by_systemd(tmp_path: Path) -> None:
    """Only the listening Unix stream socket is taken; a second look finds nothing."""
    path = str(tmp_path / "handed.sock")
    with (
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        listening.bind(path)
        listening.listen()
        fds = (listening.fileno(), other.fileno())
        done = subprocess.run(
            [sys.executable, "-c", HANDED_IN, *map(str, fds)],
            pass_fds=fds, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert done.stdout == f"[{path!r}] []\n"


def test_a_systemd_that_is_away_ends_nothing(systemd: socket.socket) -> None:
    """It is for a moment when it is updated; the next word arrives again."""
    place = systemd.getsockname()
    systemd.close()
    notify.status("said to nobody")
    os.unlink(place)
    notify.ready("said to nobody either")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as back:
        back.bind(place)
        back.setblocking(False)
        notify.status("fine")
        assert heard(back) == ["STATUS=fine"]
