"""The Prometheus endpoint: GET /metrics over TCP, read only. Edge: aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from blocksnapd.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

IDLE_TIMEOUT_S = 75.0
STOP_TIMEOUT_S = 1.0


class MetricsServer:
    """``await start(addresses)`` … ``await stop()``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._runner: web.AppRunner | None = None

    async def start(self, addresses: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Answer on every (host, TCP port); return where, with a port of 0 filled in.

        Raises:
            HostError: one of them cannot be had; then none is answered on.
        """
        app = web.Application(client_max_size=1024)
        app.add_routes([web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=IDLE_TIMEOUT_S,
            shutdown_timeout=STOP_TIMEOUT_S,
        )
        await self._runner.setup()
        for host, tcp_port in addresses:
            try:
                await web.TCPSite(self._runner, host, tcp_port).start()
            except OSError as error:
                await self.stop()
                raise HostError(
                    f"cannot listen on {host}:{tcp_port}: {error.strerror or error}",
                    effect="Prometheus cannot ask; the volumes are protected all the same.",
                    hint="Name another address under [metrics] listen, or none: listen = [].",
                ) from error
        return [address[:2] for address in self._runner.addresses]

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )
