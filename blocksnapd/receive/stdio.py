"""A receiver on standard input and output: what sshd starts for a source. Edge.

sshd hands two pipes over, and what answers wants one socket: two threads copy between them. The
caller is the host that the forced command names; nothing that comes in can say otherwise.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING

from blocksnapd.receive.application import Application
from blocksnapd.receive.places import Places
from blocksnapd.receive.serving import Serving
from blocksnapd.store.ssh import GREETING

if TYPE_CHECKING:
    from blocksnapd.config_receive import ReceiveConfig
    from blocksnapd.receive.caller import Caller

PIECE_SIZE = 1 << 18


async def receive_stdio(
    config: ReceiveConfig, caller: Caller, fds: tuple[int, int] = (0, 1)
) -> None:
    """Serve ``caller`` over two file descriptors until it closes them.

    Raises:
        BlocksnapError: the receiver cannot start.
    """
    serving = Serving(Application(Places(lambda: config), lambda _: caller).build())
    await serving.start()
    near, far = socket.socketpair()
    with far:
        copying = asyncio.create_task(asyncio.to_thread(_copy_both, far, *fds))
        transport = await serving.answer(near)
        await copying
        transport.close()
        await serving.stop()


def _copy_both(far: socket.socket, source: int, sink: int) -> None:
    """Greet, then copy until the answers end, or whoever takes them does."""

    def copy_in() -> None:
        try:
            while data := os.read(source, PIECE_SIZE):
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
        except OSError:
            return  # whoever answers is gone: the other direction has ended, too

    # Not waited for: it may sit in a read that nothing ends.
    threading.Thread(target=copy_in, name="stdin", daemon=True).start()
    try:
        _write(sink, GREETING)
        while data := far.recv(PIECE_SIZE):
            _write(sink, data)
    except OSError:
        return  # the source is gone
    finally:
        far.shutdown(socket.SHUT_RDWR)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
