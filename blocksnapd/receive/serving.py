"""Byte streams to an application: TLS over TCP, or any connected socket. Edge: aiohttp, ssl.

Certificates are rotated without a restart: ``reload`` listens on with new files from the same
sockets, and connections that are open go on. A connection that asks nothing within ``SILENT_S_MAX``
is dropped, and so are those above ``CONNECTIONS_MAX``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

from aiohttp import web

from blocksnapd.errors import ConfigError, HostError
from blocksnapd.receive.caller import caller_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler

    from blocksnapd.config_receive import Pki
    from blocksnapd.receive.caller import Caller

HANDSHAKE_S_MAX = 15.0
IDLE_S_MAX = 150.0
STOP_S_MAX = 10.0
BACKLOG = 256
DEAD_MS_MAX = 60_000  # what was sent and not acknowledged for so long ends the connection
READ_SIZE = 1 << 20
SILENT_S_MAX = 30.0
CONNECTIONS_MAX = 4096


def server_context(pki: Pki) -> ssl.SSLContext:
    """Return what lets in only who has a certificate of the authority; reads the files.

    Raises:
        ConfigError: one of them cannot be read or is none of its kind.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    assert pki.ca is not None  # all of them are named, or none
    assert pki.cert is not None
    path = pki.cert
    try:
        context.load_cert_chain(pki.cert, pki.key)
        path = pki.ca
        context.load_verify_locations(pki.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificate in {path}, or its key, cannot be used: {error}",
            effect="The receiver does not answer with it.",
            hint="Make certificates with: blocksnapctl pair",
        ) from error
    return context


def caller_of_certificate(request: web.Request) -> Caller:
    """Return whom the certificate of a request's connection names.

    Raises:
        StoreRefusedError: nobody.
    """
    found: Any = request.get_extra_info("peercert") or {}
    names = found.get("subjectAltName", ())
    return caller_named([text for kind, text in names if kind == "URI"])


class Serving:
    """``await start`` … ``await stop``; in between connections are answered."""

    def __init__(self, application: web.Application, *, silent_s_max: float = SILENT_S_MAX) -> None:
        self._silent_s_max = silent_s_max
        application.middlewares.append(self._note)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, keepalive_timeout=IDLE_S_MAX,
            shutdown_timeout=STOP_S_MAX, auto_decompress=False, read_bufsize=READ_SIZE,
        )  # fmt: skip
        self._sockets: list[socket.socket] = []
        self._listening: list[asyncio.Server] = []
        self._speakers: set[web.RequestHandler] = set()  # forgotten by the reaper once closed
        self._reaper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be ready to answer."""
        await self._runner.setup()
        self._reaper = asyncio.create_task(self._reap(), name="receive-reaper")

    async def listen(
        self, addresses: Iterable[tuple[str, int]], context: ssl.SSLContext
    ) -> list[tuple[str, int]]:
        """Answer over TLS on every (host, TCP port); return where, a port of 0 filled in.

        Raises:
            HostError: one of them cannot be had; then none is answered on.
        """
        try:
            for host, tcp_port in addresses:
                self._sockets += _bound(host, tcp_port)
        except OSError as error:
            self._close_sockets()
            raise HostError(
                f"cannot listen on {host}:{tcp_port}: {error.strerror or error}",
                effect="The receiver did not start; sources keep their snapshots meanwhile.",
                hint="Name another address under [receive] listen.",
            ) from error
        await self.reload(context)
        return [s.getsockname()[:2] for s in self._sockets]

    async def reload(self, context: ssl.SSLContext) -> None:
        """Answer new connections with ``context``."""
        loop, old = asyncio.get_running_loop(), self._listening
        # Two listen for a moment, on one queue of connections: nobody is turned away.
        self._listening = [
            await loop.create_server(
                self._protocol, sock=s.dup(), ssl=context, backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_S_MAX,
            )
            for s in self._sockets
        ]  # fmt: skip
        for server in old:
            server.close()

    async def answer(self, connected: socket.socket) -> asyncio.Transport:
        """Answer on a socket that is connected, without TLS; return its transport."""
        connected.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(self._protocol, connected)
        return transport

    async def stop(self) -> None:
        """Take no more connections, let requests under way finish for a while, close."""
        for server in self._listening:
            server.close()
        self._close_sockets()
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.wait({self._reaper})
        await self._runner.cleanup()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._speakers.add(request.protocol)
        return await handler(request)

    async def _reap(self) -> None:
        seen: dict[web.RequestHandler, float] = {}
        loop = asyncio.get_running_loop()
        while True:
            open_now = self._runner.server.connections if self._runner.server else []
            seen = {one: seen.get(one, loop.time()) for one in open_now}
            self._speakers.intersection_update(open_now)
            for one, since in seen.items():
                if one not in self._speakers and loop.time() - since >= self._silent_s_max:
                    _abort(one)
            for one in open_now[CONNECTIONS_MAX:]:
                _abort(one)
            await asyncio.sleep(self._silent_s_max / 4)

    def _protocol(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        made: asyncio.Protocol = self._runner.server()
        return made

    def _close_sockets(self) -> None:
        for one in self._sockets:
            one.close()
        self._sockets.clear()


def _abort(connection: web.RequestHandler) -> None:
    if connection.transport is not None:
        connection.transport.abort()


def _bound(host: str, tcp_port: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host, tcp_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind | socket.SOCK_CLOEXEC)
            found.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Taken over by every connection: a source that lost its power holds nothing for long.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_MS_MAX)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError:
        for one in found:
            with contextlib.suppress(OSError):
                one.close()
        raise
    return found
