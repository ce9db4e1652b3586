"""A long and breaking line to a TCP server: latency, cuts at any byte, and everything is counted.

    with FarLine("127.0.0.1", 7420, latency_s=0.025) as line:      # 50 ms there and back
        line.cut_after(123_456)       # after so many more bytes, either way; then it heals
        …                             # talk to 127.0.0.1:line.tcp_port

A cut ends every connection in the middle of what it says, as a network that goes away does. Who
dials within ``down_s`` after it is thrown out as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import Self

CHUNK_SIZE = 64 << 10
CHUNKS_MAX = 512  # under way on one side of a connection: more are not taken from who sends


@dataclass
class Counted:
    """Bytes to the server and back; ``turns``: how often the line's direction changed to back."""

    up: int = 0
    down: int = 0
    turns: int = 0


class FarLine:
    """The line; ``latency_s`` is one way."""

    def __init__(
        self, host: str, tcp_port: int, *, latency_s: float = 0.0, down_s: float = 0.0
    ) -> None:
        self._upstream, self.latency_s, self._down_s = (host, tcp_port), latency_s, down_s
        self.counted, self.cuts, self.tcp_port = Counted(), 0, 0
        self._left: int | None = None
        self._is_upward, self._down_until = False, 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_after(self, size: int | None) -> None:
        """Cut once after ``size`` more bytes of both directions; None: not any more."""
        self._left = size

    def count_anew(self) -> Counted:
        """Return what was counted; begin at nothing."""
        found, self.counted, self._is_upward = self.counted, Counted(), False
        return found

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, limit=CHUNK_SIZE)
        self.tcp_port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        self._break()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self._loop.time() < self._down_until:
            back.transport.abort()
            return
        try:
            far, there = await self._dial()
        except OSError:
            back.transport.abort()
            return
        self._open |= {back, there}
        try:
            await asyncio.gather(
                self._carry(near, there, is_upward=True), self._carry(far, back, is_upward=False)
            )
        finally:
            self._open -= {back, there}
            for writer in (back, there):
                writer.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._upstream, limit=CHUNK_SIZE)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_upward: bool
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_MAX)
        arriving = asyncio.create_task(self._arrive(under_way, writer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_SIZE):
                self._count(len(data), is_upward=is_upward)
                await under_way.put(
                    (self._loop.time() + self.latency_s, data[: self._passing(data)])
                )
                if self._left == 0:
                    await self._cut()
        await under_way.put((self._loop.time() + self.latency_s, b""))
        await arriving

    async def _arrive(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                if not data:
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                    return
                writer.write(data)
                await writer.drain()
        while (await under_way.get())[1]:  # the other end is gone: nobody may wait for room here
            pass

    def _count(self, size: int, *, is_upward: bool) -> None:
        if is_upward:
            self.counted.up += size
        else:
            self.counted.down += size
            self.counted.turns += self._is_upward
        self._is_upward = is_upward

    def _passing(self, data: bytes) -> int:
        if self._left is None:
            return len(data)
        size = min(len(data), self._left)
        self._left -= size
        return size

    async def _cut(self) -> None:
        self._left, self.cuts = None, self.cuts + 1
        self._down_until = self._loop.time() + self._down_s
        await asyncio.sleep(self.latency_s)  # the byte before the cut arrives
        self._break()

    def _break(self) -> None:
        for writer in self._open:
            writer.transport.abort()
