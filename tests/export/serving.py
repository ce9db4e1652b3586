"""An NBD server over images in memory, in a thread of its own, for real clients to talk to."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from blocksnapd.errors import NotFoundError
from blocksnapd.export.exports import Export
from blocksnapd.export.listening import listen_tcp, listen_unix
from blocksnapd.export.server import Server
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence

KIB, MIB = 1 << 10, 1 << 20


def patchy(size: int, seed: int = 1, *, piece: int = 64 * KIB) -> bytes:
    """Return bytes of which pieces of drawn length are random, and others zero."""
    dice, parts, left = random.Random(seed), [], size
    while left:
        length = min(left, 4 * KIB * dice.randint(1, 2 * piece // (4 * KIB)))
        parts.append(dice.randbytes(length) if dice.random() < 0.5 else bytes(length))
        left -= length
    return b"".join(parts)


class Shelf:
    """A ``Resolver`` over images by name; counts what is opened and closed."""

    def __init__(self, images: Mapping[str, Any]) -> None:
        self.images = dict(images)
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.aliases: dict[str, str] = {}

    async def resolve(self, name: str) -> Export:
        name = self.aliases.get(name, name)
        if name not in self.images:
            raise NotFoundError(f"there is no {name!r} here", hint="Look at the list.")
        image = self.images[name]
        return Export(name, image.size, image.block_size, f"about {name}", lambda: self._open(name))

    def _open(self, name: str) -> Any:
        self.opened.append(name)
        return _Noted(self.images[name], lambda: self.closed.append(name))

    async def names(self) -> Sequence[tuple[str, str]]:
        return [(name, f"about {name}") for name in self.images]


class _Noted:
    def __init__(self, image: Any, closed: Callable[[], None]) -> None:
        self._image, self.close = image, closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image, name)


class Served:
    """A running server: where it is, and the way into its event loop."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, path: str, port: int):
        self.server, self.loop, self.path, self.port = server, loop, path, port

    def uri(self, name: str = "") -> str:
        return f"nbd+unix:///{quote(name, safe='')}?socket={self.path}"

    def ask(self, question: Callable[[], Any]) -> Any:
        """Return what ``question`` gives within the loop."""

        async def ask() -> Any:
            return question()

        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(10)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until ``condition`` holds within the loop."""
        deadline = time.monotonic() + 20
        while not self.ask(condition):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(30)


@contextmanager
def serving(
    images: Mapping[str, Any] | Shelf | bytes, *, tcp: bool = False, **options: Any
) -> Iterator[Served]:
    """Serve images by name, or one content under the empty name."""
    if isinstance(images, bytes):
        images = {"": MemoryImage(images)}
    shelf = images if isinstance(images, Shelf) else Shelf(images)
    with tempfile.TemporaryDirectory(prefix="blocksnap-export-") as folder:
        path = str(Path(folder) / "nbd.sock")
        sockets: list[socket.socket] = [listen_unix(path)]
        if tcp:
            sockets.append(listen_tcp("127.0.0.1", 0))
        port = sockets[-1].getsockname()[1] if tcp else 0
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        async def start() -> Server:
            server = Server(shelf, **options)
            for listening in sockets:
                server.start(listening)
            return server

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield Served(server, loop, path, port)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
