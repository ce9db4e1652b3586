"""A bad line to a real HTTP server: answers get lost, requests too, servers say they are busy.

    with BadLine("127.0.0.1", 8333) as line:
        line.faults = ["lost-answer", "503"]      # for the next requests that ``hits``
        store = S3Store(f"s3://…?endpoint={line.endpoint}")

``Host`` goes through as the client signed it, so the server behind checks the real signature.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 60.0
BUSY = {
    "503": (503, "SlowDown"),
    "500": (500, "InternalError"),
    "409": (409, "ConditionalRequestConflict"),
    "507": (507, "InsufficientStorage"),
    "403": (403, "RequestTimeTooSkewed"),
}


class BadLine:
    """The line. ``seen`` lists the requests as (method, path, headers)."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.faults: list[str] = []
        self.hits: Callable[[str, str], bool] = lambda method, path: method == "PUT"
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._guard = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fault(self, method: str, path: str, headers: dict[str, str]) -> str:
        """Note a request; return what happens to it, empty for nothing."""
        with self._guard:
            self.seen.append((method, path, headers))
            return self.faults.pop(0) if self.faults and self.hits(method, path) else ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = line.fault(self.command, self.path, dict(self.headers))
                if fault in BUSY:
                    self.say_busy(*BUSY[fault])
                    return
                self.close_connection = True
                if fault == "lost-request":
                    return
                upstream = http.client.HTTPConnection(*line.upstream, timeout=TIMEOUT_S)
                try:
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    answer = upstream.getresponse()
                    content = answer.read()
                except OSError:
                    return
                finally:
                    upstream.close()
                if fault != "lost-answer":
                    self.answer(answer, content)

            def answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

            def say_busy(self, status: int, code: str) -> None:
                content = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
                self.send_response_only(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        for verb in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{verb}", Handler.pass_on)
        return Handler
