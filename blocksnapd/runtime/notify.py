"""What systemd hears from us and hands to us: sd_notify, the watchdog, sockets. Edge.

Without systemd (no ``NOTIFY_SOCKET``, no ``LISTEN_FDS``) everything here does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING

import systemd.daemon as sd

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.ports import Clock

log = logging.getLogger(__name__)

STATUS_LENGTH_MAX = 200


def ready(status: str) -> None:
    """Say that start-up, crash recovery included, is behind us."""
    _tell(f"READY=1\nSTATUS={_one_line(status)}")


def reloading() -> None:
    """Say that a reload began; ``ready`` ends it."""
    _tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")


def status(text: str) -> None:
    """Say in one line how things are, for ``systemctl status``."""
    _tell(f"STATUS={_one_line(text)}")


def stopping(text: str = "stopping") -> None:
    """Say that the end has begun."""
    _tell(f"STOPPING=1\nSTATUS={_one_line(text)}")


def extend_timeout(seconds: float) -> None:
    """Ask for ``seconds`` more before systemd calls starting or stopping a failure."""
    _tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")


def watchdog_interval_s() -> float | None:
    """Return how often systemd wants a sign of life at the latest; None: not at all."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


async def feed_watchdog(clock: Clock, is_alive: Callable[[], bool]) -> None:
    """Give systemd its sign of life for ever, three times an interval, while ``is_alive()``.

    Runs in the event loop, so that a stuck loop starves it as well. Waits for ever when
    systemd wants no signs.
    """
    interval = watchdog_interval_s()
    while True:
        if interval and is_alive():
            _tell("WATCHDOG=1")
        await clock.sleep((interval or 3600.0) / 3)


def listen_sockets() -> list[socket.socket]:
    """Take the listening Unix stream sockets that systemd handed in; later calls get none."""
    taken = []
    for fd in sd.listen_fds(unset_environment=True):
        if sd.is_socket_unix(fd, socket.SOCK_STREAM, 1):
            taken.append(socket.socket(fileno=fd))
        else:
            os.close(fd)
    return taken


def _tell(message: str) -> None:
    # systemd is away for a moment when it is updated: no reason to stop protecting.
    try:
        sd.notify(message)
    except OSError as error:
        log.warning("systemd cannot be told %r: %s", message, error)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:STATUS_LENGTH_MAX]
