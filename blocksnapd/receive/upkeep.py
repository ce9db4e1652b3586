"""What a receiver does for the hosts it keeps: their floors, and rounds of maintenance. Edge.

A round is ``blocksnapd maintain DIRECTORY --key FILE``, a process of its own at the lowest priority
that may be killed at any moment; it ends with the receiver.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from blocksnapd.runtime import process
from blocksnapd.store.floor import write_floor

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.config_receive import Host, ReceiveConfig
    from blocksnapd.ports import Clock
    from blocksnapd.receive.metrics import ReceiveMetrics

log = logging.getLogger(__name__)

FIRST_AFTER_S = 60.0
ROUND_S_MAX = 12 * 3600.0


def hosts_of(config: ReceiveConfig) -> list[str]:
    """Return the hosts that keep something here, sorted."""
    with os.scandir(config.receive.root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def write_floors(config: ReceiveConfig) -> None:
    """Have every host's directory say its floor. Blocking."""
    for host in hosts_of(config):
        write_floor(os.path.join(config.receive.root, host), config.host(host).floor_s)


def round_argv(root: str, host: Host) -> list[str]:
    """Return the command that maintains the directory ``root``."""
    keep = [word for rule in host.keep for word in ("--keep", rule.text)]
    key = host.maintenance_key or ""
    return process.own_argv("maintain", root, "--key", key, *keep)


class Upkeep:
    """Maintains every host that has a maintenance_key, again and again. Event loop only."""

    def __init__(
        self, config: Callable[[], ReceiveConfig], metrics: ReceiveMetrics, clock: Clock
    ) -> None:
        self._config, self._metrics, self._clock = config, metrics, clock

    async def run(self) -> None:
        """Maintain for ever."""
        await self._clock.sleep(min(FIRST_AFTER_S, self._config().receive.maintain_every_s))
        while True:
            for host in await asyncio.to_thread(hosts_of, self._config()):
                await self.maintain(host)
            await self._clock.sleep(self._config().receive.maintain_every_s)

    async def maintain(self, host: str) -> None:
        """Maintain one host now, if there is a key for it; never raises what that can meet."""
        config = self._config()
        said = config.host(host)
        if said.maintenance_key is None:
            return
        argv = round_argv(os.path.join(config.receive.root, host), said)
        try:
            ended = await process.run(argv, timeout_s=ROUND_S_MAX)
        except (BlocksnapError, OSError) as error:
            self._ended(host, str(error))
            return
        for line in ended.stdout.splitlines():
            log.info("%s: %s", host, line)
        self._ended(host, ended.said[-500:] if ended.status else "")

    def _ended(self, host: str, why: str) -> None:
        if why:
            log.error("%s could not be maintained: %s", host, why)
        self._metrics.maintained(host, is_good=not why, now=self._clock.now())
