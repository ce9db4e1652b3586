"""One request and its reply, over sockets where something is wrong at the other end."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from blocksnapctl.client import Client, ProblemError, WaitOverError
from blocksnapd.errors import NotAllowedError, UnreachableError
from tests.control.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nBlocksnap-Api: 1\r\nContent-Length: "


@contextmanager
def answering(path: Path, reply: bytes, *, hangs: bool = False) -> Iterator[Client]:
    """Serve one connection with ``reply``; then close it, or hang until the client has left."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path / "s"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)
                while hangs and connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(str(path / "s"), timeout_s=0.1)
        thread.join()


def test_a_document(tmp_path: Path) -> None:
    with answering(tmp_path, HEAD + b'7\r\n\r\n{"a":1}') as client:
        assert client.get("status") == {"a": 1}


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage\r\n\r\n",
        HEAD + b'70\r\n\r\n{"a":1}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"3\r\n\r\n[1]",
        HEAD + b"3\r\n\r\n{x}",
        HEAD + b"2\r\n\r\n\xff\xff",
    ],
)
def test_whatever_else_answers_is_not_taken_for_the_daemon(tmp_path: Path, reply: bytes) -> None:
    with answering(tmp_path, reply) as client, pytest.raises(UnreachableError) as caught:
        client.get("status")
    assert caught.value.hint


def test_silence(tmp_path: Path) -> None:
    silent = pytest.raises(UnreachableError, match="it was silent for 0 s")
    with answering(tmp_path, b"", hangs=True) as client, silent:
        client.get("status")


def test_nobody(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="No such file"):
        Client(str(tmp_path / "none")).get("status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(UnreachableError, match="Connection refused"):
        Client(str(tmp_path / "dead")).post("runs", body={})


def test_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("blocksnapctl.client._UnixConnection.connect", refuse)
    with pytest.raises(NotAllowedError, match="you may not connect"):
        Client(str(tmp_path / "s")).get("status")


STREAM = b"HTTP/1.1 200 OK\r\nBlocksnap-Api: 1\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_stream_with_heartbeats_and_an_end(tmp_path: Path) -> None:
    reply = STREAM + chunk(b'{"a":1}\n') + chunk(b"\n") + chunk(b'{"a":2}\n') + chunk(b"")
    with answering(tmp_path, reply) as client:
        assert list(client.stream("events")) == [{"a": 1}, {"a": 2}]


def test_a_stream_that_ends_with_a_problem(tmp_path: Path) -> None:
    reply = STREAM + chunk(b'{"a":1}\n{"type":"error","code":"E-X","message":"m"}\n') + chunk(b"")
    with answering(tmp_path, reply) as client:
        lines = client.stream("events")
        assert next(lines) == {"a": 1}
        with pytest.raises(ProblemError, match="m"):
            next(lines)


def test_a_stream_that_goes_silent(tmp_path: Path) -> None:
    with answering(tmp_path, STREAM + chunk(b'{"a":1}\n'), hangs=True) as client:
        lines = client.stream("events")
        next(lines)
        with pytest.raises(UnreachableError, match="silent"):
            next(lines)


@pytest.mark.parametrize("after_s", [-1.0, 0.02])
def test_a_deadline(tmp_path: Path, after_s: float) -> None:
    with answering(tmp_path, STREAM, hangs=True) as client, pytest.raises(WaitOverError):
        next(client.stream("events", deadline=time.monotonic() + after_s))


async def test_names_are_encoded() -> None:
    import asyncio

    async with serving() as served:
        client = Client(served.path)
        for name in ("vg0/home", "/srv/disk image.raw"):
            found = await asyncio.to_thread(client.get, "volumes", name)
            assert found["volume"] == name
        with pytest.raises(ProblemError) as caught:
            await asyncio.to_thread(client.get, "volumes", "a%2F?b#c")
        assert caught.value.problem["message"].startswith("no volume 'a%2F?b#c'")
