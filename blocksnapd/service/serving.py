"""What the daemon and a worker have in common: they answer until they are to end. Edge."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from blocksnapd.control.server import ControlServer

if TYPE_CHECKING:
    import contextlib
    import socket
    from collections.abc import Callable

    from blocksnapd.control.access import Access
    from blocksnapd.control.operations import Operations


async def serve(
    stack: contextlib.AsyncExitStack,
    operations: Operations,
    access: Access,
    sockets: list[socket.socket],
    *,
    are_ours: bool,
    answered: Callable[[str, str, int], None] = lambda *_: None,
) -> None:
    """Answer on ``sockets`` until ``stack`` is closed.

    Args:
        stack: ends it.
        operations: whom to ask.
        access: who may.
        sockets: bound, and listening from here on.
        are_ours: whether their files go at the end.
        answered: see ``ControlServer``.
    """
    for listening in sockets:
        answering = ControlServer(operations, access, answered=answered)
        await answering.start(listening)
        stack.push_async_callback(answering.stop, unlink=are_ours)


def stop_signal() -> asyncio.Event:
    """Return what is set from the first SIGTERM or SIGINT on."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
