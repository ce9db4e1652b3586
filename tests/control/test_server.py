"""Connections: the silent and the surplus are dropped; sockets come and go."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from blocksnapd.control.server import ControlServer
from tests.control.serving import OWN, serving
from tests.fakes.operations import MemoryOperations

if TYPE_CHECKING:
    from pathlib import Path


async def end_of(connection: socket.socket) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await asyncio.get_running_loop().sock_recv(connection, 1)
        except ConnectionError:
            return b""


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    connection.connect(path)
    return connection


def _exists(path: str) -> bool:
    return os.path.exists(path)


async def test_who_stays_silent_is_dropped() -> None:
    async with serving(head_timeout_s=0.1) as served:
        with connect(served.path) as silent, connect(served.path) as slow:
            slow.send(b"GET /v1/status HT")
            assert await end_of(silent) == b""
            assert await end_of(slow) == b""
            assert (await served.get("/v1/status"))[0] == 200


async def test_who_spoke_may_be_idle() -> None:
    async with serving(head_timeout_s=0.05) as served:
        with connect(served.path) as idle, connect(served.path) as silent:
            idle.send(b"GET /v1/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await end_of(silent) == b""
            loop = asyncio.get_running_loop()
            await loop.sock_recv(idle, 65536)
            idle.send(b"GET /v1/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await loop.sock_recv(idle, 65536)).startswith(b"HTTP/1.1 200")


async def test_answers_are_counted_by_what_the_routes_know() -> None:
    heard: list[tuple[str, str, int]] = []
    async with serving(answered=lambda *answer: heard.append(answer)) as served:
        await served.get("/v1/status")
        await served.get("/v1/volumes/vg0%2Fnone")
        await served.get("/no/such/path")
    assert heard == [
        ("GET", "/v1/status", 200), ("GET", "/v1/volumes/{volume}", 404), ("", "", 404),
    ]  # fmt: skip


async def test_surplus_connections_are_dropped() -> None:
    async with serving(head_timeout_s=1.0, connections_max=2) as served:
        many = [connect(served.path) for _ in range(6)]
        ends = [asyncio.create_task(end_of(one)) for one in many]
        while sum(end.done() for end in ends) < 4:
            await asyncio.wait([e for e in ends if not e.done()], return_when="FIRST_COMPLETED")
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        for one in many:
            one.close()


async def test_a_socket_handed_in_is_left_in_place(tmp_path: Path) -> None:
    path = str(tmp_path / "handed.sock")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    server = ControlServer(MemoryOperations(), OWN)
    await server.start(listening)
    await server.stop(unlink=False)
    assert _exists(path)


async def test_our_own_socket_goes_with_us() -> None:
    async with serving() as served:
        await served.server.stop()
        assert not _exists(served.path)


async def test_stop_before_start_is_fine() -> None:
    await ControlServer(MemoryOperations(), OWN).stop()
