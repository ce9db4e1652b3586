"""The control socket: connections in, within limits. Edge: aiohttp.

Every connection that has not sent a whole request head within ``HEAD_TIMEOUT_S`` is dropped, and
so is every one above ``CONNECTIONS_MAX``; an idle one goes after ``IDLE_TIMEOUT_S``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING

from aiohttp import web

from blocksnapd.control.routes import Routes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from blocksnapd.control.access import Access
    from blocksnapd.control.operations import Operations

log = logging.getLogger(__name__)


class _Brief(logging.Filter):
    """One line for whoever does not speak HTTP: what he sent, and our stack, are no news."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record."""
        error = record.exc_info[1] if record.exc_info else None
        record.msg, record.args = "a client was refused: %s", (type(error).__name__,)
        record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
        return True


_noise = logging.getLogger(f"{__name__}.noise")
_noise.addFilter(_Brief())

HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 75.0
STOP_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 256


class ControlServer:
    """``await start(socket)`` … ``await stop()``; in between it answers.

    Args:
        operations: whom to ask.
        access: who may.
        head_timeout_s: how long a new connection may stay silent.
        connections_max: so many at once.
        answered: hears of each answer: method, pattern of the path (empty: none fits), code.
    """

    def __init__(
        self,
        operations: Operations,
        access: Access,
        *,
        head_timeout_s: float = HEAD_TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
        answered: Callable[[str, str, int], None] = lambda *_: None,
    ) -> None:
        self._routes = Routes(operations, access)
        self._head_timeout_s = head_timeout_s
        self._connections_max = connections_max
        self._answered = answered
        self._runner: web.AppRunner | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._path = ""

    async def start(self, listening: socket.socket) -> None:
        """Answer on a socket that is bound and listens: ours, or one systemd handed in."""
        app = self._routes.application()
        app.on_response_prepare.append(self._note_answer)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_noise,
            handle_signals=False,
            keepalive_timeout=IDLE_TIMEOUT_S,
            shutdown_timeout=STOP_TIMEOUT_S,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        self._path = str(listening.getsockname())
        self._reaper = asyncio.create_task(self._reap(), name="control-reaper")

    async def stop(self, *, unlink: bool = True) -> None:
        """End the streams, let short requests finish, close; remove the socket's file."""
        self._routes.closing.set()
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.wait({self._reaper})
        if self._runner is not None:
            await self._runner.cleanup()
            if unlink:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)

    async def _note_answer(self, request: web.Request, response: web.StreamResponse) -> None:
        resource = request.match_info.route.resource
        # Only what the routes know: a label must not be a client's to choose.
        method = request.method if resource is not None else ""
        self._answered(method, resource.canonical if resource else "", response.status)

    async def _reap(self) -> None:
        """Drop who stays silent, and who is too many."""
        seen: dict[asyncio.WriteTransport, float] = {}
        loop = asyncio.get_running_loop()
        while True:
            open_now = self._transports()
            seen = {t: seen.get(t, loop.time()) for t in open_now}
            silent = [
                t
                for t, since in seen.items()
                if t not in self._routes.speakers and loop.time() - since >= self._head_timeout_s
            ]
            for transport in {*silent, *open_now[self._connections_max :]}:
                log.info("a silent or surplus connection to the control socket was dropped")
                transport.abort()
            await asyncio.sleep(self._head_timeout_s / 4)

    def _transports(self) -> list[asyncio.WriteTransport]:
        server = self._runner.server if self._runner else None
        found = (handler.transport for handler in server.connections) if server else ()
        return [t for t in found if isinstance(t, asyncio.WriteTransport)]
