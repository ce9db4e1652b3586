"""TCP ports for servers under test, of which no two tests on this machine get the same.

A port that was free a moment ago may be another's when the server, seconds later, takes it. So
each is held under a name in the abstract space of Unix sockets, which vanishes with this process;
and all lie below the ports that the kernel gives to outgoing connections.
"""

from __future__ import annotations

import socket

GRPC_OFFSET = 10_000  # SeaweedFS has one for gRPC so far above each port
_PORTS = range(20_000, 32_768 - GRPC_OFFSET)
_held: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Return ports that are this process's until it ends; each ``GRPC_OFFSET`` above is, too."""
    found: list[int] = []
    for port in _PORTS:
        if len(found) == count:
            return found
        if _hold(port):
            found.append(port)
    raise OSError("no free ports")


def _hold(port: int) -> bool:
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0blocksnap-test-port-{port}")
    except OSError:
        name.close()
        return False
    _held.append(name)
    return _is_free(port) and _is_free(port + GRPC_OFFSET)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
