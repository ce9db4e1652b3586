"""Sockets for clients to come in by. Edge."""

from __future__ import annotations

import os
import socket
import stat
from typing import Final

from blocksnapd.errors import HostError, RefusedError, UsageError
from blocksnapd.export.protocol import TCP_PORT

BACKLOG: Final = 64
_NOTHING: Final = "Nothing is exported."


def listen_unix(path: str) -> socket.socket:
    """Return a socket at ``path`` that only its owner may connect to.

    Raises:
        RefusedError: something is there that nobody may lose. HostError: it cannot be made.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        os.fchmod(listening.fileno(), 0o600)  # becomes the mode of the file: open at no moment
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _cannot(path, error) from error
    except BaseException:
        listening.close()
        raise
    return listening


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a socket on an address; port 0 is any that is free.

    Raises:
        HostError: the address is not this host's, or is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _cannot(f"{host}:{port}", error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _cannot(f"{host}:{port}", error) from error
    return listening


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        UsageError: it is none of these.
    """
    host, port = text, str(TCP_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        is_whole = bool(bracket) and (not rest or rest.startswith(":"))
        port = rest[1:] if rest else port
    else:
        if ":" in text:
            host, _, port = text.rpartition(":")
        is_whole = ":" not in host
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 1 << 16
    if not (is_whole and host and is_port):
        raise UsageError(
            f"{text!r} is no address", effect=_NOTHING,
            hint="Write it like 127.0.0.1:10809, host:10809 or [::1]:10809.",
        )  # fmt: skip
    return host, int(port)


def _remove_stale(path: str) -> None:
    # Only a socket that nobody listens on may go; its owner did not live to remove it.
    if not os.path.lexists(path):
        return
    if stat.S_ISSOCK(os.lstat(path).st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.settimeout(1.0)
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
    raise RefusedError(f"{path} exists", effect=_NOTHING, hint="Name another place for the socket.")


def _cannot(where: str, error: OSError) -> HostError:
    return HostError(
        f"cannot listen on {where}: {error.strerror or error}", effect=_NOTHING,
        hint="Choose another place with --socket PATH or --listen ADDRESS:PORT.",
    )  # fmt: skip
