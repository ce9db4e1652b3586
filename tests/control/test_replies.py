"""Streams: errors on the way, clients that sleep or leave, heartbeats, the daemon's end."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

from blocksnapd.control import replies
from blocksnapd.errors import StoreFullError
from tests.control.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

    from blocksnapd.control.messages import Event


async def until(served: Served, streams: int) -> None:
    """Wait for the server to open or close streams: it happens in its own time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while served.operations.streams_open != streams and loop.time() < deadline:
        await served.get("/v1/health/live")
    assert served.operations.streams_open == streams


async def test_an_error_after_the_first_line_is_the_last_line() -> None:
    async with serving() as served:

        async def broken(since: int, *, follow: bool) -> AsyncGenerator[Event, None]:
            yield {"seq": 1}
            raise StoreFullError("no room", hint="Make room.")

        served.operations.events = broken  # type: ignore[method-assign,assignment]
        async with served.http.get("http://x/v1/events") as reply:
            lines = [json.loads(line) async for line in reply.content]
        assert lines[0] == {"seq": 1}
        assert (lines[1]["type"], lines[1]["code"]) == ("error", "E-REPO-FULL")
        assert len(lines) == 2


async def test_silence_has_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(replies, "FIRST_LINE_S", 0.01)
    async with serving() as served:
        async with served.http.get("http://x/v1/events?follow=1") as reply:
            assert await reply.content.readline() == b"\n"
            assert await reply.content.readline() == b"\n"
            await served.operations.say("at last")
            while (line := await reply.content.readline()) == b"\n":
                pass
            assert json.loads(line)["message"] == "at last"
        await until(served, 0)  # and a client that left is noticed by it


async def test_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "SEND_TIMEOUT_S", 0.05)
    async with serving() as served:
        for _ in range(200):
            await served.operations.say("x" * 10_000)
        with socket.socket(socket.AF_UNIX) as sleeper:
            sleeper.setblocking(False)
            sleeper.connect(served.path)
            sleeper.send(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(served, 1)
            await until(served, 0)
            # The others are served as ever.
            assert (await served.get("/v1/status"))[0] == 200


async def test_the_daemon_s_end_ends_streams() -> None:
    async with serving() as served:
        await served.operations.say("one")
        async with served.http.get("http://x/v1/events?follow=1") as reply:
            await reply.content.readline()
            async with asyncio.timeout(10):
                await served.server.stop()
                assert await reply.content.readline() == b""
        assert served.operations.streams_open == 0
