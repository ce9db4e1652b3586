"""The daemon in this process: what systemd hears of it, and what it survives."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapctl.client import Client
from blocksnapd import daemon, worker
from blocksnapd.config import load
from blocksnapd.errors import BusyError, HostError
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.repository import Repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

CONFIG = """\
schema = 1
[daemon]
state_dir = "{path}/state"
[control]
socket = "{path}/control.sock"
[metrics]
listen = [{listen}]
[target.near]
url = "{path}/repository"
source_key = "{path}/keys/source.key"
[volume."{path}/disk.img"]
every = "1h"
"""


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


@pytest.fixture
def place(tmp_path: Path) -> Path:
    init_repository(str(tmp_path / "repository"), str(tmp_path / "keys"))
    (tmp_path / "disk.img").write_bytes(b"content" * 1000)
    configure(tmp_path)
    return tmp_path


def configure(path: Path, listen: str = "") -> None:
    (path / "blocksnap.toml").write_text(CONFIG.format(path=path, listen=listen))


async def heard(receiver: socket.socket, word: str) -> list[str]:
    """Return what systemd hears up to and with ``word``."""
    said: list[str] = []
    async with asyncio.timeout(30):
        while word not in "".join(said[-1:]):
            data = await asyncio.get_running_loop().sock_recv(receiver, 4096)
            said.append(data.decode())
    return said


@asynccontextmanager
async def running(place: Path, receiver: socket.socket) -> AsyncIterator[list[str]]:
    """Run the daemon from READY to SIGTERM; give what systemd heard before."""
    work = asyncio.create_task(daemon.run_daemon(load(str(place / "blocksnap.toml"))))
    ready = asyncio.create_task(heard(receiver, "READY=1"))
    await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        ready.cancel()
        await work
    yield await ready
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(30):
        await work


async def until(condition: Callable[[], object]) -> None:
    """Let the daemon work until ``condition`` holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what another thread does sets no event
            await asyncio.sleep(0.01)


async def ask(place: Path, *path: str, **query: str) -> dict[str, Any]:
    client = Client(str(place / "control.sock"))
    return await asyncio.to_thread(client.get, *path, **query)


async def events(place: Path) -> list[dict[str, Any]]:
    client = Client(str(place / "control.sock"))
    return await asyncio.to_thread(lambda: list(client.stream("events", since="0")))


async def test_what_systemd_hears(
    place: Path, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    async with running(place, systemd) as before:
        assert before[0] == "STATUS=repairing what a crash may have left"
        assert before[1].startswith("EXTEND_TIMEOUT_USEC=")
        assert before[-1] == "READY=1\nSTATUS=1 volume"
        await heard(systemd, "WATCHDOG=1")
        assert (await ask(place, "health", "ready"))["ready"]
    after = await heard(systemd, "EXTEND_TIMEOUT_USEC")
    assert "STOPPING=1\nSTATUS=ending the step under way" in after
    assert not (place / "control.sock").exists()


async def test_a_taken_metrics_port_stops_nothing_else(place: Path, systemd: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        configure(place, f'"127.0.0.1:{taken.getsockname()[1]}"')
        async with running(place, systemd):
            said = [e for e in await events(place) if e["type"] == "metrics-unserved"]
            assert "address already in use" in said[0]["message"]
            assert "the volumes are protected all the same" in said[0]["message"]
            assert said[0]["severity"] == "error"
            (run,) = (await ask(place, "runs"))["runs"]
            assert (await ask(place, "runs", run["id"], wait="25s"))["result"] == "success"


async def test_metrics_are_served(place: Path, systemd: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    configure(place, f'"127.0.0.1:{port}"')
    async with running(place, systemd):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        assert f'blocksnap_rpo_target_seconds{{target="near",volume="{place}/disk.img"}}' in text


async def test_the_second_is_refused_and_the_first_goes_on(
    place: Path, systemd: socket.socket
) -> None:
    async with running(place, systemd):
        with pytest.raises(BusyError, match="another daemon works with the state directory"):
            await daemon.run_daemon(load(str(place / "blocksnap.toml")))
        assert (await ask(place, "health", "live"))["live"]


async def test_an_event_log_that_cannot_be_opened(place: Path) -> None:
    (place / "state" / "events.jsonl").mkdir(parents=True)
    with pytest.raises(HostError, match=r"the event log in .* cannot be opened") as caught:
        await daemon.run_daemon(load(str(place / "blocksnap.toml")))
    assert caught.value.effect
    assert "events.jsonl" in caught.value.hint


async def test_a_worker_ends_when_its_caller_does(place: Path) -> None:
    key = load_restore(str(place / "keys" / "restore.key"))
    store = LocalStore(str(place / "repository"))
    repository = Repository.on(store, maintenance=key, restore=key)
    ours, theirs = os.pipe()
    ending = asyncio.create_task(
        worker.run_worker(
            repository, store, key, str(place / "control.sock"),
            lambda: os.close(ours) if os.read(ours, 1) == b"" else None,
        )
    )  # fmt: skip
    await until((place / "control.sock").exists)
    assert (await ask(place, "points"))["points"] == []
    os.close(theirs)
    async with asyncio.timeout(30):
        await ending
    assert not (place / "control.sock").exists()


class Task:
    """A volume's task as the watchdog sees it."""

    def __init__(self, last_turn: float, *, is_at_work: bool) -> None:
        self.last_turn, self.is_at_work = last_turn, is_at_work


@pytest.mark.parametrize(
    ("silent_s", "is_at_work", "alive"),
    [(0.0, False, True), (119.0, False, True), (121.0, False, False), (9999.0, True, True)],
)
async def test_a_scheduler_that_looks_at_nothing_is_not_alive(
    silent_s: float, is_at_work: bool, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stuck volume is enough; a cycle under way may take its time."""
    monkeypatch.setattr(daemon.notify, "watchdog_interval_s", lambda: 60.0)
    clock = ManualClock()
    tasks = {
        "fine": Task(clock.monotonic() + 20_000, is_at_work=False),
        "this": Task(clock.monotonic(), is_at_work=is_at_work),
    }
    check = daemon._is_alive(tasks, clock)  # type: ignore[arg-type]
    await clock.advance(silent_s)
    assert check() is alive
