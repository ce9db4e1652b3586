"""The NBD server: lets clients in, within limits, and ends them in good order. Edge.

Every client has a ``Connection`` of its own; what one does wrong or slowly is its own. Who floods
with connections that choose no export only pushes out its like: the oldest of those goes first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from blocksnapd.export.connection import HANDSHAKE_S, Connection
from blocksnapd.export.exports import IDLE_S, Exports
from blocksnapd.export.stream import Stream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Hashable

    from blocksnapd.export.exports import Resolver

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 64
NEGOTIATING_MAX: Final = 128  # beside those; one costs a socket and little else
# They decode, and share an interpreter: more of them mostly wait for each other (on two
# processors 16 took a fifth more processor time than 4 for the same bytes).
THREADS: Final = max(4, 2 * (os.cpu_count() or 1))
STOP_S: Final = 2.0
RETRY_S: Final = 0.2  # after the process ran out of file descriptors


class Server:
    """``start(socket)`` … ``await stop()``; in between it serves. Event loop only.

    Args:
        resolver: which exports there are.
        tls: what TLS takes; with it nobody is served without.
        overlays: a directory; with it exports are writable, each group's writes in a file there.
        idle_s: how long an export stays open without users.
        handshake_s: how long a client may take to choose.
        connections_max: how many may be served at a time.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        tls: ssl.SSLContext | None = None,
        overlays: str | None = None,
        idle_s: float = IDLE_S,
        handshake_s: float = HANDSHAKE_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._exports = Exports(resolver, overlays=overlays, idle_s=idle_s)
        self._tls = tls
        self._handshake_s = handshake_s
        self._connections_max = connections_max
        self._threads = ThreadPoolExecutor(THREADS, "blocksnap-export")
        self._running: dict[asyncio.Task[None], Connection] = {}
        self._listening: list[socket.socket] = []
        self._ended_bytes = 0

    @property
    def connections(self) -> int:
        """How many clients use an export now."""
        return sum(connection.is_serving for connection in self._running.values())

    @property
    def sent_bytes(self) -> int:
        """Bytes of replies so far."""
        return self._ended_bytes + sum(c.sent_bytes for c in self._running.values())

    @property
    def open_count(self) -> int:
        """How many images and overlays are open."""
        return self._exports.open_count

    def start(self, listening: socket.socket) -> None:
        """Serve on a socket that listens; it belongs to the server from now on."""
        listening.setblocking(False)
        self._listening.append(listening)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    async def stop(self) -> None:
        """Let in nobody, finish what was asked within ``STOP_S``, close everything."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._listening.clear()
        finishing = [asyncio.create_task(c.finished()) for c in self._running.values()]
        if finishing:
            _, late = await asyncio.wait(finishing, timeout=STOP_S)
            for task in late:
                task.cancel()
        for connection_task in self._running:
            connection_task.cancel()
        while self._running:
            await asyncio.wait(self._running)
        await self._exports.stop()
        self._threads.shutdown(wait=False)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("a client could not be let in: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            loop.call_later(RETRY_S, self._accept_again, listening)
        else:
            self._let_in(connection)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _let_in(self, connected: socket.socket) -> None:
        try:
            group, stream = group_of(connected), Stream(connected)
        except OSError:  # it is gone already
            connected.close()
            return
        if not self._make_place():
            stream.close()
            return
        connection = Connection(
            stream, group, self._exports, self._threads,
            tls=self._tls, handshake_s=self._handshake_s, may_serve=self._has_place,
        )  # fmt: skip
        task = asyncio.create_task(self._serve(connection, group))
        self._running[task] = connection
        task.add_done_callback(self._ended)

    def _make_place(self) -> bool:
        negotiating = [
            (task, connection)
            for task, connection in self._running.items()
            if not connection.is_serving and not task.cancelling()
        ]
        if len(negotiating) < NEGOTIATING_MAX:
            return True
        for task, connection in negotiating:
            if not connection.is_opening:
                task.cancel()
                return True
        return False

    def _has_place(self) -> bool:
        return self.connections < self._connections_max

    async def _serve(self, connection: Connection, group: Hashable) -> None:
        try:
            reason = await connection.run()
        except Exception:
            log.exception("serving %s failed in a way nobody thought of", group)
        else:
            log.info("%s: %s", group, reason)

    def _ended(self, task: asyncio.Task[None]) -> None:
        connection = self._running.pop(task)
        connection.close()  # a task that was cancelled before it began has closed nothing
        self._ended_bytes += connection.sent_bytes


def group_of(connected: socket.socket) -> tuple[str, int | str]:
    """Return whose connection it is: a process on a Unix socket, an address on TCP.

    Raises:
        OSError: the client is gone.
    """
    if connected.family == socket.AF_UNIX:
        size = struct.calcsize("3i")
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return "process", int(struct.unpack("3i", raw)[0])
    return "address", str(connected.getpeername()[0])
