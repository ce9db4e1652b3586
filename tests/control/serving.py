"""A real control server on a real socket, over operations in memory; clients to ask it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from blocksnapd.control.access import Access
from blocksnapd.control.server import ControlServer
from blocksnapd.control.unix_socket import bind
from tests.fakes.operations import MemoryOperations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OWN = Access(own_uid=os.geteuid())


@dataclass
class Served:
    path: str
    operations: MemoryOperations
    http: aiohttp.ClientSession
    server: ControlServer

    async def get(self, url: str) -> tuple[int, Any]:
        async with self.http.get(f"http://x{url}") as reply:
            return reply.status, await reply.json(content_type=None)

    async def post(self, url: str, body: Any) -> tuple[int, Any]:
        async with self.http.post(f"http://x{url}", json=body) as reply:
            return reply.status, await reply.json(content_type=None)


@asynccontextmanager
async def serving(access: Access = OWN, **limits: Any) -> AsyncIterator[Served]:
    """Serve in a directory that other users may reach; the socket's own mode is what keeps them."""
    folder = Path(tempfile.mkdtemp(prefix="blocksnap-test-"))
    os.chmod(folder, 0o755)
    path = str(folder / "control.sock")
    operations = MemoryOperations()
    server = ControlServer(operations, access, **limits)
    await server.start(bind(path, access))
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
            yield Served(path, operations, http, server)
    finally:
        await server.stop()
        shutil.rmtree(folder)


async def run_command(*argv: str, **environ: str) -> tuple[int, str, str]:
    """Run a command while the event loop goes on; return exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
