"""One connection to the control socket: a request, a reply or a stream of lines. Edge.

Standard library only, so that the command line starts in a blink.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

from blocksnapd.control.messages import API_HEADER, JSON_TYPE, Problem
from blocksnapd.errors import NotAllowedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWER_TIMEOUT_S = 30.0  # the daemon answers from memory; a stream has a heartbeat every 10 s
REPLY_SIZE_MAX = 256 << 20
LINE_SIZE_MAX = 1 << 20


class ProblemError(Exception):
    """The daemon answered that it will not or cannot; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.get("message", "no reason given"))
        self.problem = problem


class WaitOverError(Exception):
    """The time the operator was willing to wait is over; the work goes on."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """Asks the daemon that listens on ``socket_path``."""

    def __init__(self, socket_path: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.socket_path = socket_path
        self._timeout_s = timeout_s

    def get(self, *path: str, **query: str) -> dict[str, Any]:
        """Return the document at ``/v1/`` + path; each part is percent-encoded here.

        Raises:
            ProblemError: the daemon says no. UnreachableError, NotAllowedError: nobody answers.
        """
        return self._document(*self._ask("GET", path, query, None))

    def post(self, *path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a document, return the one that comes back.

        Raises:
            ProblemError, UnreachableError, NotAllowedError: as ``get``.
        """
        return self._document(*self._ask("POST", path, {}, json.dumps(body).encode()))

    def stream(
        self, *path: str, deadline: float | None = None, **query: str
    ) -> Iterator[dict[str, Any]]:
        """Yield the documents of a stream until it ends or, in monotonic time, ``deadline``.

        Raises:
            ProblemError, UnreachableError, NotAllowedError: as ``get``.
            WaitOverError: the deadline passed.
        """
        connection, response = self._ask("GET", path, query, None)
        try:
            if response.status != 200:
                self._document(connection, response)
            while line := self._line(connection, response, deadline):
                if line.strip():
                    found = _parse(line, self.socket_path)
                    if found.get("type") == "error" and "code" in found:
                        raise ProblemError(cast("Problem", found))
                    yield found
        finally:
            connection.close()

    def _ask(
        self, method: str, path: tuple[str, ...], query: Mapping[str, str], body: bytes | None
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        target = "/v1/" + "/".join(quote(part, safe="") for part in path)
        connection = _UnixConnection(self.socket_path, self._timeout_s)
        try:
            headers = {"Content-Type": JSON_TYPE} if body is not None else {}
            url = f"{target}?{urlencode(query)}" if query else target
            connection.request(method, url, body=body, headers=headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error

    def _document(
        self, connection: _UnixConnection, response: http.client.HTTPResponse
    ) -> dict[str, Any]:
        try:
            # With an amount, a reply that was cut short would pass for a whole one.
            is_bounded = response.length is not None and response.length <= REPLY_SIZE_MAX
            data = response.read() if is_bounded else response.read(REPLY_SIZE_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if response.getheader(API_HEADER) is None:
            raise _stranger(self.socket_path)
        found = _parse(data, self.socket_path)
        if response.status >= 400 and "code" in found:
            raise ProblemError(cast("Problem", found))
        return found

    def _line(
        self,
        connection: _UnixConnection,
        response: http.client.HTTPResponse,
        deadline: float | None,
    ) -> bytes:
        # getresponse() hands the socket over to the response when the reply closes it.
        left = self._timeout_s if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise WaitOverError
        if connection.sock is not None:
            connection.sock.settimeout(min(left, self._timeout_s))
        try:
            return response.readline(LINE_SIZE_MAX)
        except TimeoutError as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitOverError from error
            raise self._unreachable(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError | NotAllowedError:
        if isinstance(error, PermissionError):
            return NotAllowedError(
                f"you may not connect to {self.socket_path}",
                effect="Nothing was asked.",
                hint="Use sudo, or join the group that [control] read_group names.",
            )
        if isinstance(error, TimeoutError):
            reason = f"it was silent for {self._timeout_s:.0f} s"
        else:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return UnreachableError(
            f"no daemon answers on {self.socket_path}: {reason}",
            effect="Whether the volumes are protected right now is not known.",
            hint=(
                "Start it with: systemctl start blocksnapd; or read a repository without it: "
                "blocksnapctl --repo URL points"
            ),
        )


def _parse(data: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        raise _stranger(path) from None
    if not isinstance(found, dict):
        raise _stranger(path)
    return found


def _stranger(path: str) -> UnreachableError:
    return UnreachableError(
        f"what listens on {path} does not answer as blocksnapd does",
        hint="Name the daemon's socket with --socket.",
    )
