"""Where clients come in by: addresses as people write them, sockets only their owner may use."""

from __future__ import annotations

import os
import socket

import pytest

from blocksnapd.errors import HostError, RefusedError, UsageError
from blocksnapd.export.listening import listen_tcp, listen_unix, parse_address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:7", ("127.0.0.1", 7)), ("host", ("host", 10809)), ("[::1]:0", ("::1", 0)),
        ("[::]", ("::", 10809)), ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)  # fmt: skip
def test_addresses(text, found):
    assert parse_address(text) == found


@pytest.mark.parametrize(
    "text", ["", ":", ":7", "host:", "host:x", "host:65536", "::1", "[::1", "[]:7", "[::1]7", "h:٣"]
)
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match="no address") as caught:
        parse_address(text)
    assert "10809" in caught.value.hint


def test_a_socket_is_its_owners_alone(tmp_path):
    path = tmp_path / "nbd.sock"
    with listen_unix(str(path)):
        assert os.stat(path).st_mode & 0o777 == 0o600
        with pytest.raises(RefusedError):
            listen_unix(str(path))
    with listen_unix(str(path)), socket.socket(socket.AF_UNIX) as client:  # one nobody listens on
        client.connect(str(path))


def test_a_file_in_the_way_stays(tmp_path):
    path = tmp_path / "nbd.sock"
    path.write_text("precious")
    with pytest.raises(RefusedError):
        listen_unix(str(path))
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_is_told(tmp_path):
    with pytest.raises(HostError, match="cannot listen on"):
        listen_unix(str(tmp_path / "gone" / "nbd.sock"))
    with pytest.raises(HostError):
        listen_unix(str(tmp_path / ("x" * 200)))


def test_tcp_ports(tmp_path):
    with listen_tcp("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(HostError, match=f"127.0.0.1:{port}"):
            listen_tcp("127.0.0.1", port)
    with pytest.raises(HostError):
        listen_tcp("192.0.2.1", 0)
    with pytest.raises(HostError):
        listen_tcp("no-such-host.invalid", 1)
