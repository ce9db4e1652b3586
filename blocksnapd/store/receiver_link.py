"""HTTP/1.1 to a receiver over byte streams that somebody dials. Edge: sockets.

One request at a time on a connection; ``Links`` keeps those that are idle. Every wait has a limit.
A ``LinkError`` says that the other side may or may not have done what it was asked.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import h11

from blocksnapd.errors import BlocksnapError, CertificateError
from blocksnapd.pki.contexts import ClientTls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocksnapd.model import Access

CONNECT_S_MAX = 10.0
STALL_S_MAX = 60.0
ANSWER_S_MAX = 120.0  # a busy disk there may take so long to make an object durable
IDLE_S_MAX = 120.0  # the receiver closes a little later
IDLE_COUNT_MAX = 8
RECEIVE_SIZE = 1 << 18
HEAD_SIZE_MAX = 1 << 16
DEAD_MS_MAX = 60_000

Headers = list[tuple[str, str]]


class LinkError(Exception):
    """The connection failed; ``hint`` says what to look at."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or "Look after the network and the receiver; it is tried again."


class Dialer(Protocol):
    """Makes connections to one receiver."""

    host: str  # as HTTP wants it said

    def dial(self) -> socket.socket:
        """Return a new connected byte stream.

        Raises:
            LinkError: there is none to be had.
        """


class TlsDialer:
    """Dials by TCP and TLS, both sides with certificates; a renewed one counts from then on."""

    def __init__(self, host: str, tcp_port: int, access: Access) -> None:
        self._address, self._tls = (host, tcp_port), ClientTls(access)
        self.host = f"{host}:{tcp_port}"

    def dial(self) -> socket.socket:
        """Return a new connected byte stream; raises as ``Dialer.dial``."""
        try:
            context = self._tls.context()
        except CertificateError as error:
            # Not as it is: what goes wrong on the way to a repository is no fault of its format.
            raise LinkError(error.message, hint=error.hint) from error
        try:
            plain = socket.create_connection(self._address, timeout=CONNECT_S_MAX)
        except OSError as error:
            raise LinkError(f"cannot connect to {self.host}: {_said(error)}") from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_MS_MAX)
            return context.wrap_socket(plain, server_hostname=self._address[0])
        except (OSError, ValueError) as error:
            plain.close()
            raise LinkError(
                f"{self.host} and this host do not trust each other: {_said(error)}",
                hint="Look at the dates and the authority of both certificates: blocksnapctl pair "
                "makes new ones.",
            ) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with; ``size`` of the body, None: not told."""

    status: int
    headers: dict[str, str]

    @property
    def size(self) -> int | None:
        """Bytes of the body, None if it does not say."""
        said = self.headers.get("content-length", "")
        return int(said) if said.isdigit() and len(said) < 20 else None


class Link:
    """One connection. Not thread-safe."""

    def __init__(self, stream: socket.socket, host: str) -> None:
        self._stream, self._host = stream, host
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_SIZE_MAX)
        self.idle_since = time.monotonic()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def request(self, method: str, path: str, headers: Headers) -> None:
        """Send the head of a request."""
        self._send(h11.Request(method=method, target=path, headers=[
            ("Host", self._host), *headers,
        ]))  # fmt: skip

    def body(self, parts: Iterable[bytes | memoryview]) -> None:
        """Send parts of the request's body."""
        for part in parts:
            self._send(h11.Data(data=part))  # type: ignore[arg-type]  # is passed through

    def end(self) -> None:
        """End the request."""
        self._send(h11.EndOfMessage())

    def is_asked_for_body(self) -> Answer | None:
        """Wait for the word to go on; an answer instead means that the body is not wanted."""
        event = self._next(ANSWER_S_MAX)
        return None if isinstance(event, h11.InformationalResponse) else _answer(event)

    def answer(self) -> Answer:
        """Wait for the head of the answer."""
        while True:
            event = self._next(ANSWER_S_MAX)
            if not isinstance(event, h11.InformationalResponse):
                return _answer(event)

    def content(self) -> Iterator[bytes]:
        """Yield the answer's body to its end."""
        while True:
            event = self._next(STALL_S_MAX)
            if isinstance(event, h11.EndOfMessage):
                return
            if not isinstance(event, h11.Data):
                raise LinkError("the connection ended within an answer")
            yield bytes(event.data)

    def is_over(self) -> bool:
        """Return whether the answer, or the connection, has ended; does not wait."""
        if not select.select([self._stream], [], [], 0)[0]:
            return False
        try:
            return not isinstance(self._next(0.1), h11.Data)
        except LinkError as error:
            return not isinstance(error.__cause__, TimeoutError)

    def recycle(self) -> bool:
        """Make it ready for another request; False: it is of no more use."""
        try:
            self._http.start_next_cycle()
        except h11.ProtocolError:
            return False
        self.idle_since = time.monotonic()
        return True

    def _send(self, event: h11.Event) -> None:
        try:
            pieces = self._http.send_with_data_passthrough(event) or ()
            self._stream.settimeout(STALL_S_MAX)
            for piece in pieces:
                self._stream.sendall(piece)
        except (OSError, h11.ProtocolError) as error:
            raise LinkError(f"the connection broke while sending: {_said(error)}") from error

    def _next(self, limit_s: float) -> object:
        try:
            self._stream.settimeout(limit_s)
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self._stream.recv(RECEIVE_SIZE))
        except TimeoutError as error:
            raise LinkError(f"no answer for {limit_s:.0f} s") from error
        except (OSError, h11.ProtocolError) as error:
            raise LinkError(f"the connection broke: {_said(error)}") from error
        if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            raise LinkError("the connection was closed before an answer")
        return event


class Links:
    """The connections to one receiver. Thread-safe."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._idle: list[Link] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def borrowed(self, *, is_new: bool = False) -> Iterator[Link]:
        """Give a connection; it is kept if the exchange on it came to its end.

        Raises:
            LinkError: there is none to be had.
        """
        link = None if is_new else self._taken()
        if link is None:
            link = Link(self._dialer.dial(), self._dialer.host)
        try:
            yield link
        except BlocksnapError:
            self._give_back(link)  # it was answered
            raise
        except BaseException:
            link.close()
            raise
        self._give_back(link)

    def close(self) -> None:
        """End those that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def _taken(self) -> Link | None:
        with self._lock:
            while self._idle:
                link = self._idle.pop()
                if time.monotonic() - link.idle_since < IDLE_S_MAX:
                    return link
                link.close()
        return None

    def _give_back(self, link: Link) -> None:
        with self._lock:
            if len(self._idle) < IDLE_COUNT_MAX and link.recycle():
                self._idle.append(link)
                return
        link.close()


def _answer(event: object) -> Answer:
    if not isinstance(event, h11.Response):
        raise LinkError("the connection ended before an answer")
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in event.headers}
    return Answer(event.status_code, headers)


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
