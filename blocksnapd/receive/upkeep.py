"""What a receiver does for the hosts it keeps: their floors, and rounds of maintenance. Edge.

A round is ``blocksnapd maintain URL --key FILE``, a process of its own at the lowest priority
that may be killed at any moment; it ends with the receiver.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError, StoreError
from blocksnapd.receive.places import keep_floor
from blocksnapd.runtime import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.config_receive import Host, ReceiveConfig
    from blocksnapd.ports import Clock
    from blocksnapd.receive.metrics import ReceiveMetrics
    from blocksnapd.receive.roots import Root

log = logging.getLogger(__name__)

FIRST_AFTER_S = 60.0
ROUND_S_MAX = 12 * 3600.0


def write_floors(root: Root, config: ReceiveConfig) -> None:
    """Have every host's repository say its floor; what cannot be is told. Blocking.

    A host whose repository cannot be told now is told before it puts anything.
    """
    try:
        for host in root.hosts():
            keep_floor(root, host, config)
    except StoreError as error:
        log.error("floors could not be written: %s", error.sentences())


def round_argv(url: str, host: Host, credentials: str | None = None) -> list[str]:
    """Return the command that maintains the repository ``url``."""
    keep = [word for rule in host.keep for word in ("--keep", rule.text)]
    opening = [] if credentials is None else ["--credentials", credentials]
    return process.own_argv("maintain", url, "--key", host.maintenance_key or "", *opening, *keep)


class Upkeep:
    """Maintains every host that has a maintenance_key, again and again. Event loop only."""

    def __init__(
        self,
        root: Root,
        config: Callable[[], ReceiveConfig],
        metrics: ReceiveMetrics,
        clock: Clock,
    ) -> None:
        self._root, self._config, self._metrics, self._clock = root, config, metrics, clock

    async def run(self) -> None:
        """Maintain for ever."""
        await self._clock.sleep(min(FIRST_AFTER_S, self._config().receive.maintain_every_s))
        while True:
            for host in await asyncio.to_thread(self._hosts):
                await self.maintain(host)
            await self._clock.sleep(self._config().receive.maintain_every_s)

    async def maintain(self, host: str) -> None:
        """Maintain one host now, if there is a key for it; never raises what that can meet."""
        config = self._config()
        said = config.host(host)
        if said.maintenance_key is None:
            return
        argv = round_argv(self._root.url(host), said, config.receive.credentials)
        try:
            ended = await process.run(argv, timeout_s=ROUND_S_MAX)
        except (BlocksnapError, OSError) as error:
            self._ended(host, str(error))
            return
        for line in ended.stdout.splitlines():
            log.info("%s: %s", host, line)
        self._ended(host, ended.said[-500:] if ended.status else "")

    def _hosts(self) -> list[str]:
        try:
            return self._root.hosts()
        except StoreError as error:
            log.error("nothing is maintained now: %s", error.sentences())
            return []

    def _ended(self, host: str, why: str) -> None:
        if why:
            log.error("%s could not be maintained: %s", host, why)
        self._metrics.maintained(host, is_good=not why, now=self._clock.now())
