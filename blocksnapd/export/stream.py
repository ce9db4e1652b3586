"""The bytes of one connection, plain at first, in TLS when both agreed on it. Edge.

Nothing is buffered beyond what one call got: who does not read is not written to, who does not
take is waited for. One task receives; several may send, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Sequence

RECEIVE_SIZE: Final = 64 << 10
SEND_BUFFER_SIZE: Final = 1 << 20  # a whole piece goes out without waiting for the client
JOIN_SIZE_MAX: Final = 16 << 10  # buffers up to this go out together
TLS_SLICE_SIZE: Final = 64 << 10
END_S: Final = 1.0
# A client whose machine vanished is given up after two minutes; one that only idles never is.
_KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 120_000,
}  # fmt: skip


class Stream:
    """A connected socket, which belongs to it from now on."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family == socket.AF_UNIX:  # TCP finds its own
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def receive(self) -> bytes:
        """Return what came, at least a byte; none: the peer has ended.

        Raises:
            OSError: the connection broke (an ``ssl.SSLError`` is one).
        """
        if self._tls is None:
            return await self._loop.sock_recv(self._socket, RECEIVE_SIZE)
        while True:
            try:
                return self._tls.read(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                await self._flush()  # a key update asks for an answer
                if not await self._feed():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def send(self, buffers: Sequence[bytes | bytearray]) -> None:
        """Send all of it, in order; what other tasks send comes before or after.

        Raises:
            OSError: the connection broke.
        """
        async with self._sending:
            for buffer in _joined(buffers):
                if self._tls is None:
                    await self._loop.sock_sendall(self._socket, buffer)
                    continue
                for start in range(0, len(buffer), TLS_SLICE_SIZE):
                    self._tls.write(memoryview(buffer)[start : start + TLS_SLICE_SIZE])
                    await self._loop.sock_sendall(self._socket, self._outgoing.read())

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands as the server; everything after it is in TLS.

        Raises:
            OSError: they did not agree, or the connection broke.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError("the peer left within the TLS handshake") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert that tells the client why
                raise
            else:
                break
        await self._flush()
        self._tls = tls

    async def end(self) -> None:
        """Say in TLS that this is all, so that nobody takes it for a cut."""
        if self._tls is None:
            return
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):  # also when the peer takes nothing any more
            async with asyncio.timeout(END_S):
                await self._flush()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def _feed(self) -> bool:
        data = await self._loop.sock_recv(self._socket, RECEIVE_SIZE)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        async with self._sending:
            if self._outgoing.pending:
                await self._loop.sock_sendall(self._socket, self._outgoing.read())


def _joined(buffers: Sequence[bytes | bytearray]) -> list[bytes | bytearray]:
    """Return the buffers with small neighbours made one: each costs a system call."""
    joined: list[bytes | bytearray] = []
    small: list[bytes | bytearray] = []
    for buffer in buffers:
        small.append(buffer)
        if len(buffer) > JOIN_SIZE_MAX:
            joined += [b"".join(small[:-1]), buffer]
            small.clear()
    joined.append(b"".join(small))
    return [buffer for buffer in joined if buffer]


def tls_context(certificate: str, key: str, clients: str | None) -> ssl.SSLContext:
    """Return what TLS needs on the server's side.

    Args:
        certificate: path of the server's certificate, its chain after it.
        key: path of its private key.
        clients: path of the certificates that sign those of clients; None: anybody gets in.

    Raises:
        HostError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise HostError(
            f"the TLS files cannot be used: {error}",
            effect="Nothing is exported.",
            hint=f"Look at {certificate}, {key}{' and ' + clients if clients else ''}: PEM files, "
            "the key not sealed and the certificate's own.",
        ) from error
    return context
