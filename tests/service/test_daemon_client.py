"""A worker asks a real control server; what it refuses comes back as the error it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import (
    BusyError,
    HostError,
    NotFoundError,
    RefusedError,
    StoreError,
    UnreachableError,
)
from blocksnapd.service.daemon_client import DaemonClient
from tests.control.serving import serving

if TYPE_CHECKING:
    from pathlib import Path


async def test_questions_and_answers() -> None:
    async with serving() as served, DaemonClient(served.path) as daemon:
        assert (await daemon.get("volumes", "vg0/home"))["volume"] == "vg0/home"
        assert (await daemon.get("volumes", "/srv/disk image.raw"))["points"] == 3
        told = await daemon.post("volumes", "vg0/home", "in-place", body={"point": "p7"})
        assert told["id"] == "z1"
        assert served.operations.in_place_heard == [{"point": "p7"}]
        started = await daemon.post("runs", body={"kind": "cycle", "volume": "vg0/home"})
        found = await daemon.get("runs", str(started["id"]), wait="50ms")
        assert found["state"] == "running"


@pytest.mark.parametrize("kind", [RefusedError, BusyError, StoreError, HostError])
async def test_refusals(kind: type[HostError]) -> None:
    async with serving() as served, DaemonClient(served.path) as daemon:
        served.operations.failure = kind("no", effect="none", hint="ask later")
        with pytest.raises(kind, match=r"^no$") as caught:
            await daemon.get("status")
        assert (caught.value.effect, caught.value.hint) == ("none", "ask later")
        served.operations.failure = None
        with pytest.raises(NotFoundError):
            await daemon.get("volumes", "vg0/none")


async def test_nobody_or_a_stranger(tmp_path: Path) -> None:
    async with DaemonClient(str(tmp_path / "none")) as daemon:
        with pytest.raises(UnreachableError, match="no daemon answers"):
            await daemon.get("status")
    path = str(tmp_path / "sock")
    replies = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"what?\n", b""]

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(replies.pop() if replies else b"")  # a client may ask again
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(answer, path):
        for _ in range(3):
            async with DaemonClient(path) as daemon:
                with pytest.raises(UnreachableError):
                    await daemon.get("status")
    assert replies == []
