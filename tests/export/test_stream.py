"""Bytes through a real socket, plain and in TLS, with ends and cuts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import HostError
from blocksnapd.export.stream import Stream, _joined, tls_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.export.certificates import Certificates


def pair() -> tuple[Stream, socket.socket]:
    ours, theirs = socket.socketpair()
    return Stream(ours), theirs


async def test_everything_arrives_in_order_and_the_end_is_seen():
    stream, theirs = pair()
    buffers = [b"head", bytearray(300_000), b"tail", b"", b"x" * 20_000]
    sending = asyncio.create_task(stream.send(buffers))
    got = await asyncio.to_thread(lambda: receive_exactly(theirs, sum(map(len, buffers))))
    await sending
    assert got == b"".join(buffers)
    theirs.sendall(b"hello")
    assert await stream.receive() == b"hello"
    theirs.close()
    assert await stream.receive() == b""
    await stream.end()
    stream.close()


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        found += connection.recv(65536)
    return bytes(found)


def test_small_buffers_go_out_together():
    large = bytes(20_000)
    assert _joined([b"a", b"b", large, b"c", b""]) == [b"ab", large, b"c"]
    assert _joined([]) == []


async def in_tls(
    certificates: Certificates, context: ssl.SSLContext
) -> tuple[Stream, ssl.SSLSocket]:
    stream, theirs = pair()
    theirs.settimeout(10)

    def shake() -> ssl.SSLSocket:
        return certificates.client_context().wrap_socket(theirs, server_hostname="localhost")

    shaking = asyncio.create_task(asyncio.to_thread(shake))
    await stream.start_tls(context)
    return stream, await shaking


async def test_in_tls_the_same_arrives(certificates):
    context = tls_context(certificates.certificate, certificates.key, certificates.authority)
    stream, theirs = await in_tls(certificates, context)
    sending = asyncio.create_task(stream.send([b"head", bytes(500_000), b"tail"]))
    got = await asyncio.to_thread(lambda: receive_exactly(theirs, 500_008))
    await sending
    assert got == b"head" + bytes(500_000) + b"tail"
    theirs.sendall(b"x" * 100_000)
    back = b""
    while len(back) < 100_000:
        back += await stream.receive()
    assert back == b"x" * 100_000
    await stream.end()
    stream.close()
    assert theirs.recv(10) == b""  # an end that TLS knows of, not a cut
    theirs.close()


async def test_a_client_that_ends_tls_or_is_cut_ends_the_stream(certificates):
    context = tls_context(certificates.certificate, certificates.key, None)
    stream, theirs = await in_tls(certificates, context)
    await asyncio.gather(asyncio.to_thread(theirs.unwrap), ending(stream), return_exceptions=True)
    theirs.close()
    cut, theirs = await in_tls(certificates, context)
    theirs.close()
    with contextlib.suppress(ConnectionResetError):  # it had not read all we said
        assert await cut.receive() == b""
    cut.close()


async def ending(stream: Stream) -> None:
    assert await stream.receive() == b""
    await stream.end()
    stream.close()


@pytest.mark.parametrize("words", [b"GET / HTTP/1.0\r\n\r\n", b""])
async def test_what_is_no_tls_is_an_error(certificates, words):
    stream, theirs = pair()
    theirs.sendall(words)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError):
        await stream.start_tls(tls_context(certificates.certificate, certificates.key, None))
    stream.close()
    theirs.close()


async def test_a_client_without_a_certificate_stays_outside(certificates):
    context = tls_context(certificates.certificate, certificates.key, certificates.authority)
    stream, theirs = pair()
    theirs.settimeout(10)

    def shake() -> None:
        context = certificates.client_context(own=False)
        with context.wrap_socket(theirs, server_hostname="localhost") as inside:
            inside.recv(1)

    shaking = asyncio.create_task(asyncio.to_thread(shake))
    with pytest.raises(ssl.SSLError):
        await stream.start_tls(context)
    stream.close()
    with pytest.raises(OSError):
        await shaking


def test_files_that_are_no_certificates_are_told(certificates, tmp_path: Path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    for files in (
        (str(wrong), certificates.key, None),
        (certificates.certificate, str(tmp_path / "none"), None),
        (certificates.certificate, certificates.key, str(wrong)),
    ):
        with pytest.raises(HostError) as caught:
            tls_context(*files)
        assert "PEM" in caught.value.hint
