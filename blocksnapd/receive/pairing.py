"""A receiver's own authority at work: pairs hosts, renews certificates, knows who is let in. Edge.

The receiver's certificate is good for the names by which sources that paired reached it. It is made
anew before it ends, and taken up by the next connection; so is what ``blocksnapd revoke`` wrote.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import web

from blocksnapd.errors import BlocksnapError, NotAllowedError, StoreRefusedError
from blocksnapd.pki.certificates import read_facts
from blocksnapd.pki.contexts import ServerTls, peer_of
from blocksnapd.pki.registrar import Registrar
from blocksnapd.pki.registry import Registry
from blocksnapd.pki.wire import (
    BEGIN_PATH,
    FINISH_PATH,
    RENEW_PATH,
    Begin,
    Begun,
    Finish,
    Renew,
    Renewed,
    pack,
    unpack,
)
from blocksnapd.receive.caller import Caller, caller_named
from blocksnapd.store.receiver_wire import PROBLEM_TYPE, pack_problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable

    import msgspec
    from aiohttp.typedefs import Handler

    from blocksnapd.ports import Clock

log = logging.getLogger(__name__)

REFRESH_EVERY_S: Final = 5.0  # so long a revoked host may go on


class Pairing:
    """The authority in ``directory``, made on first use. Blocks while it is made.

    Raises:
        HostError: the directory cannot be used. CertificateError: what is in it is damaged.
    """

    def __init__(self, directory: str, clock: Clock, names: Iterable[str] = ()) -> None:
        self._clock = clock
        self._registry = Registry(directory, clock)
        self._registrar = Registrar(self._registry, clock, self._reached)
        self._own = self._registry.own_certificate(("localhost", socket.gethostname(), *names))
        self._tls = ServerTls(self._registry.authority.certificate, self._own)

    @property
    def context(self) -> ssl.SSLContext:
        """What to listen with; it follows the certificate by itself."""
        return self._tls.context

    def routes(self) -> list[web.RouteDef]:
        """Return what answers sources that pair or renew."""
        return [
            web.post(BEGIN_PATH, _answering(self._begin)),
            web.post(FINISH_PATH, _answering(self._finish)),
            web.post(RENEW_PATH, _answering(self._renew)),
        ]

    def caller_of(self, request: web.Request) -> Caller:
        """Return who sends a request.

        Raises:
            StoreRefusedError: nobody who is let in.
        """
        try:
            holder, pairing = peer_of(request.get_extra_info("peercert"))
            self._registry.check(holder, pairing)
        except NotAllowedError as error:
            raise StoreRefusedError(error.message, effect=error.effect, hint=error.hint) from error
        return caller_named([f"blocksnap:{holder}"])

    def ends(self) -> dict[str, float]:
        """Return by role until when certificates are good: the receiver's, the authority's."""
        authority = self._registry.authority.certificate
        return {"receiver": read_facts(self._own).ends, "authority": read_facts(authority).ends}

    async def keep(self, told: Callable[[dict[str, float]], None] = lambda _: None) -> None:
        """Follow what other processes write, and renew, for ever; ``told`` hears of ``ends``."""
        while True:
            try:
                await asyncio.to_thread(self._look)
                told(self.ends())
            except BlocksnapError as error:
                log.error("%s", error.sentences())
            await self._clock.sleep(REFRESH_EVERY_S)

    def _look(self) -> None:
        self._registry.refresh()
        self._use(self._registry.own_certificate(()))

    def _reached(self, name: str) -> None:
        self._use(self._registry.own_certificate((name,)))

    def _use(self, own: bytes) -> None:
        if own != self._own:
            self._tls.use(own)
            self._own = own
            log.info("a new certificate is shown from now on")

    async def _begin(self, request: web.Request) -> msgspec.Struct:
        asked = unpack(await request.read(), Begin)
        return Begun(*await asyncio.to_thread(self._registrar.begin, asked.holder, asked.message))

    async def _finish(self, request: web.Request) -> msgspec.Struct:
        asked = unpack(await request.read(), Finish)
        issued = await asyncio.to_thread(
            self._registrar.finish, asked.exchange, asked.request, asked.reached_as, asked.proof
        )
        log.warning("paired: %s, asked for by %s", read_facts(issued.certificate).holder,
                    request.remote)  # fmt: skip
        return issued

    async def _renew(self, request: web.Request) -> msgspec.Struct:
        asked = unpack(await request.read(), Renew)
        holder, pairing = peer_of(request.get_extra_info("peercert"))
        made = await asyncio.to_thread(self._registry.renew, holder, pairing, asked.request)
        log.info("renewed the certificate of %s", holder)
        return Renewed(made)


def _answering(answer: Callable[[web.Request], Awaitable[msgspec.Struct]]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return web.Response(body=pack(await answer(request)), content_type="application/json")
        except BlocksnapError as error:
            # Whoever tries codes is seen in the log.
            log.warning("%s from %s: %s", request.path, request.remote, error.message)
            status, body = pack_problem(error)
            return web.Response(status=status, body=body, content_type=PROBLEM_TYPE)

    return handle
