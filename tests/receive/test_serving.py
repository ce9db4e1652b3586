"""Connections: what is silent goes, what is too much is told, what is busy stays."""

from __future__ import annotations

import socket
import threading

import pytest

from blocksnapd.errors import StoreError
from blocksnapd.receive.caller import Caller
from blocksnapd.receive.serving import Serving
from tests.receive.running import Dialer, Running


@pytest.fixture
def receiver(tmp_path):
    with Running(tmp_path) as running:
        (running.root / "db01").mkdir()
        yield running


def test_a_connection_that_asks_nothing_is_dropped(receiver):
    """One that asked may stay idle for longer."""
    near, far = socket.socketpair()
    talks, end = socket.socketpair()

    async def serve() -> Serving:
        app = receiver.application(lambda _: Caller("db01", "source")).build()
        serving = Serving(app, silent_s_max=0.2)
        await serving.start()
        await serving.answer(far)
        await serving.answer(end)
        return serving

    serving = receiver.do(serve())
    talks.sendall(b"GET /v1/room HTTP/1.1\r\nHost: x\r\n\r\n")
    talks.settimeout(10)
    assert talks.recv(4096).startswith(b"HTTP/1.1 200")
    near.settimeout(10)
    assert near.recv(1) == b""
    talks.sendall(b"GET /v1/room HTTP/1.1\r\nHost: x\r\n\r\n")
    assert talks.recv(4096).startswith(b"HTTP/1.1 200")
    receiver.do(serving.stop())
    near.close()
    talks.close()


def test_one_host_cannot_take_all_there_is(receiver, monkeypatch):
    """Its request above the limit is told so; another host's is answered."""
    monkeypatch.setattr("blocksnapd.receive.application.AT_ONCE_MAX", 3)
    (receiver.root / "db02").mkdir()
    store = receiver.opened(Dialer(receiver))
    locks = [receiver.store("maintainer").lock(f"v/{n}/") for n in "abc"]
    mine = receiver.store("maintainer")
    with pytest.raises(StoreError, match="requests under way"):
        mine.list_names("v/")
    assert receiver.store("maintainer", "db02").list_names("v/") == []
    for lock in locks:
        lock.release()
        lock.wait_until_over()
    assert mine.list_names("v/") == []
    assert store.list_names("v/") == []


def test_many_connections_at_once(receiver):
    stores = [receiver.store("source", "db01") for _ in range(20)]
    found: list[object] = []

    def ask(store) -> None:
        found.append(store.free_size())

    threads = [threading.Thread(target=ask, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert all(isinstance(free, int) for free in found)
