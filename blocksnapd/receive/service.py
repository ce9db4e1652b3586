"""The receiver: builds its parts, starts them, ends them in good order. Edge.

start   configuration, certificates → listen → READY
SIGHUP  both are read again; what is wrong with them is told, and the old ones stay
stop    no new connections → requests under way end → closed
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from blocksnapd.config_receive import load_receive
from blocksnapd.control.metrics_http import MetricsServer
from blocksnapd.errors import BlocksnapError
from blocksnapd.receive.application import Application
from blocksnapd.receive.metrics import ReceiveMetrics
from blocksnapd.receive.pairing import Pairing
from blocksnapd.receive.places import Places
from blocksnapd.receive.serving import Serving, caller_of_certificate, server_context
from blocksnapd.receive.upkeep import Upkeep, write_floors
from blocksnapd.runtime import notify
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.runtime.memory import keep_freed
from blocksnapd.runtime.supervise import Supervisor

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

    from blocksnapd.config_receive import ReceiveConfig
    from blocksnapd.receive.caller import Caller

log = logging.getLogger(__name__)

THREADS = 64  # each waits for the disk, or the bucket, on behalf of one request
FIXED = ("listen", "root", "credentials", "spool")
# What comes in goes through pieces of some 256 KiB, at the speed of the line.
KEPT_SIZE = 8 << 20
KEPT_PIECE_MAX = 512 << 10


class Receiver:
    """The parts of one receiver. Event loop only."""

    def __init__(self, config: ReceiveConfig) -> None:
        self.config = config
        self.places = Places(lambda: self.config)
        self.metrics = ReceiveMetrics(CollectorRegistry())
        self.pairing: Pairing | None = None
        application = Application(self.places, self._caller_of, told=self.metrics.request)
        self._application = application.build()
        self.serving = Serving(self._application)
        self.upkeep = Upkeep(self.places.root, lambda: self.config, self.metrics, SystemClock())

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return where.

        Raises:
            BlocksnapError: a certificate, the root or an address cannot be used.
        """
        for note in await asyncio.to_thread(self.places.root.check):
            log.warning("%s", note)
        await asyncio.to_thread(write_floors, self.places.root, self.config)
        if self.config.pki.ca is None:
            pairing = await asyncio.to_thread(Pairing, self.config.pki.directory, SystemClock())
            self._application.add_routes(pairing.routes())
            self.pairing = pairing
        context = await self._context(self.config)
        await self.serving.start()
        return await self.serving.listen(self.config.receive.listen, context)

    async def reload(self) -> None:
        """Take the configuration and the certificates as they are now, or leave all as it is."""
        try:
            config = await asyncio.to_thread(load_receive, self.config.path)
            context = await self._context(config)
        except BlocksnapError as error:
            log.error("nothing was reloaded: %s", error.sentences())
            self.metrics.reloaded(is_good=False)
            return
        fixed = {key: getattr(self.config.receive, key) for key in FIXED}
        receive = config.receive.model_copy(update=fixed)
        if receive != config.receive:
            log.warning("[receive] %s are taken up by a restart only", ", ".join(FIXED))
        self.config = config.model_copy(update={"receive": receive})
        await asyncio.to_thread(write_floors, self.places.root, self.config)
        await self.serving.reload(context)
        self.metrics.reloaded(is_good=True)
        log.info("configuration and certificates were read again")

    async def _context(self, config: ReceiveConfig) -> ssl.SSLContext:
        if self.pairing is not None:
            return self.pairing.context
        return await asyncio.to_thread(server_context, config.pki)

    def _caller_of(self, request: web.Request) -> Caller:
        if self.pairing is not None:
            return self.pairing.caller_of(request)
        return caller_of_certificate(request)


async def run_receiver(config: ReceiveConfig) -> None:
    """Keep what hosts send until SIGTERM or SIGINT.

    Raises:
        BlocksnapError: the receiver could not start.
    """
    keep_freed(KEPT_SIZE, piece_max=KEPT_PIECE_MAX)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "receive"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    receiver = Receiver(config)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(receiver.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(receiver.serving.stop)
        where = await receiver.start()
        endpoint = MetricsServer(receiver.metrics.registry)
        stack.push_async_callback(endpoint.stop)
        await endpoint.start(config.receive.metrics)
        told = ", ".join(f"{host}:{tcp_port}" for host, tcp_port in where)
        async with Supervisor() as supervisor:
            feeding = notify.feed_watchdog(SystemClock(), lambda: True)
            supervisor.eternal("watchdog", feeding)
            supervisor.eternal("maintenance", receiver.upkeep.run())
            if receiver.pairing is not None:
                keeping = receiver.pairing.keep(receiver.metrics.certificates)
                supervisor.eternal("certificates", keeping)
            notify.ready(f"listening on {told}")
            log.info("ready: listening on %s", told)
            await stop.wait()
            notify.stopping("ending the requests under way")
            supervisor.stop()
