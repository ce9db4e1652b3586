"""Clients that mean no good, or are broken, on the real socket: nobody else waits for them."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from blocksnapd.control.messages import EXIT_OK
from tests.flow.kit import MIB, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_S = 10.0  # for what takes milliseconds on an idle machine
HEAD = b"GET /v1/%s HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def live(site: Site) -> Iterator[Site]:
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    yield site
    assert site.end() == 0


def connect(site: Site) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.settimeout(ANSWER_S)
    found.connect(str(site.socket))
    return found


def goes_on(site: Site) -> None:
    """Another client is answered at once, and a cycle makes its point."""
    began = time.monotonic()
    assert site.ctl("status").code == EXIT_OK
    assert site.run()["result"] == "success"
    assert time.monotonic() - began < 3 * ANSWER_S


def test_who_never_reads(live: Site) -> None:
    """Followers of all events, and askers for the whole status, that take no byte of it."""
    with ExitStack() as stack:
        for path in (b"events?follow=1", b"status") * 10:
            client = stack.enter_context(connect(live))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.sendall((HEAD % path + b"\r\n") * (1 if b"follow" in path else 50))
        goes_on(live)


def test_who_sends_a_byte_a_second(live: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(live)) for _ in range(20)]
        for byte in b"GET /":
            for client in clients:
                client.sendall(bytes([byte]))
            time.sleep(0.2)
        goes_on(live)


def test_who_sends_more_than_anybody_wants(live: Site) -> None:
    """A head without an end is refused at a few KiB, a body at 64 KiB, however it comes."""
    for sent in (
        HEAD % b"status" + b"X: " + b"x" * (1 << 20),
        HEAD % b"status" + b"X: y\r\n" * (1 << 16),
        b"GET /v1/" + b"a" * (1 << 20),
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"
        + b"x" * (1 << 20),
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"10000\r\n" + b"x" * 65536 + b"\r\n" + b"10000\r\n" + b"x" * 65536,
    ):  # fmt: skip
        with connect(live) as client:
            try:
                client.sendall(sent)
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                pass  # it was dropped while it talked
            else:
                assert client.recv(12) in {b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.0 400", b""}
    goes_on(live)


def test_noise(live: Site) -> None:
    for sent in (b"\x00" * 4096, b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n",
                 b"GET  \r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 999):  # fmt: skip
        with connect(live) as client:
            client.sendall(sent)
    goes_on(live)


def test_thousands_at_once(live: Site) -> None:
    """Those above the limit are dropped; who comes afterwards is answered."""
    with ExitStack() as stack:
        made = 0
        for _ in range(2000):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.setblocking(False)
            try:
                client.connect(str(live.socket))
                made += 1
            except BlockingIOError:  # the queue of the socket is full: wait a little
                time.sleep(0.01)
        assert made > 500
        live.until(lambda: live.ctl("status").code == EXIT_OK)
    goes_on(live)


def test_who_goes_in_the_middle(live: Site) -> None:
    """Half a request, a request without waiting for its answer, a wait that is given up."""
    name = str(live.image).replace("/", "%2F").encode()
    for sent in (b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
                 HEAD % b"points" + b"\r\n", HEAD % b"events?follow=1" + b"\r\n",
                 b"POST /v1/volumes/" + name + b"/resume HTTP/1.1\r\nHost: x\r\n\r\n"):  # fmt: skip
        for _ in range(20):
            with connect(live) as client:
                client.sendall(sent)
    goes_on(live)
