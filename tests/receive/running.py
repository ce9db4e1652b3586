"""A receiver that runs in a thread of the test: the real application behind real TLS."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvloop

from blocksnapd.config_receive import Host, Pki, Receive, ReceiveConfig
from blocksnapd.receive.application import Application
from blocksnapd.receive.caller import Caller
from blocksnapd.receive.places import Places
from blocksnapd.receive.serving import Serving, caller_of_certificate, server_context
from blocksnapd.store.receiver import ReceiverStore
from blocksnapd.store.receiver_link import LinkError, TlsDialer
from tests.fakes.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path


MAINTAINER = Caller("db01", "maintainer")


class Stream:
    """A byte stream that breaks once, where told: before bytes are sent, or before the answer."""

    def __init__(self, inner, dialer):
        self._inner, self._dialer = inner, dialer

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def sendall(self, data):
        self._dialer.sent += len(data)
        if self._dialer.cut_after is not None and self._dialer.sent > self._dialer.cut_after:
            self._dialer.cut_after = None
            self._inner.close()
            raise ConnectionResetError("cut while sending")
        self._inner.sendall(data)

    def recv(self, size):
        data = self._inner.recv(size)
        if data and self._dialer.lost_answers:
            self._dialer.lost_answers -= 1
            self._inner.close()
            raise ConnectionResetError("cut before the answer")
        return data


class Dialer:
    """Dials a receiver's application; ``lost_answers`` of the next are done and not told."""

    host = "test"

    def __init__(self, receiver, caller=MAINTAINER):
        self._receiver, self._caller = receiver, caller
        self.lost_answers, self.cut_after, self.sent, self.dialed = 0, None, 0, 0
        self.is_down = False

    def dial(self):
        if self.is_down:
            raise LinkError("there is no way")
        self.dialed += 1
        return Stream(self._receiver.stream(self._caller), self)


class Running:
    """``with Running(tmp_path) as receiver: store = receiver.store("source", "db01")``."""

    def __init__(self, folder: Path, *, reserve: int = 0, **host: object) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.authority = Authority(folder / "pki")
        cert, key = self.authority.receiver()
        self.pki = Pki(ca=self.authority.ca, cert=cert, key=key)
        self.clock = time.time
        self.config = ReceiveConfig(
            path="", receive=Receive(root=str(self.root), reserve=f"{reserve} B"), pki=self.pki
        )
        self.tell(**host)
        self.heard: list[tuple[str, str, str, int]] = []
        self.tcp_port = 0
        self._stores: list[ReceiverStore] = []
        self._streams: list[Serving] = []

    def receive(self, **more: object) -> None:
        """Change what ``[receive]`` says."""
        receive = self.config.receive.model_copy(update=more)
        self.config = self.config.model_copy(update={"receive": receive})

    def tell(self, **host: object) -> None:
        """Change what the configuration says of every host."""
        defaults = Host.model_validate({"remote_maintenance": True, **host})
        self.config = self.config.model_copy(update={"defaults": defaults})

    def __enter__(self) -> Running:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores:
            store.close()
        for serving in (*self._streams, self.serving):
            self.do(serving.stop())
        self.do(self._end())
        self.do(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _end(self) -> None:
        # aiohttp waits for ten seconds for the rest of a body, also where its connection is gone.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def do(self, work):
        """Run a coroutine in the receiver's loop; return what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def application(self, caller_of=caller_of_certificate) -> Application:
        """Return an application over the same places."""
        return Application(
            self.places, caller_of, told=lambda *said: self.heard.append(said),
            now=lambda: self.clock(),
        )  # fmt: skip

    async def _start(self) -> None:
        self.places = Places(lambda: self.config, lambda: self.clock())
        self.serving = Serving(self.application().build())
        await self.serving.start()
        (where,) = await self.serving.listen([("127.0.0.1", 0)], server_context(self.pki))
        self.tcp_port = where[1]

    def store(self, role: str, host: str = "db01", **more: object) -> ReceiverStore:
        """Return the place as somebody in that role reaches it."""
        access = self.authority.access(self.authority.client(role, host))
        return self.opened(TlsDialer("127.0.0.1", self.tcp_port, access), **more)

    def opened(self, dialer: object, **more: object) -> ReceiverStore:
        """Return the place as reached by ``dialer``; closed with the receiver."""
        url = f"https://127.0.0.1:{self.tcp_port}/"
        store = ReceiverStore(url, dialer, **more)  # type: ignore[arg-type]
        self._stores.append(store)
        return store

    def stream(self, caller: Caller) -> socket.socket:
        """Return a byte stream to an application that knows who is at its other end."""
        near, far = socket.socketpair()

        async def serve() -> None:
            serving = Serving(self.application(lambda _: caller).build())
            await serving.start()
            await serving.answer(far)
            self._streams.append(serving)

        self.do(serve())
        return near
