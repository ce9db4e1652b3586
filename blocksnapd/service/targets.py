"""The targets of one daemon: are they up, how much room do they have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.places import clock_offset_s, open_store
from blocksnapd.store.repository import Repository
from blocksnapd.store.steady import Counts, line_to

if TYPE_CHECKING:
    from blocksnapd.config import Config, Target
    from blocksnapd.control.messages import TargetStatus
    from blocksnapd.metrics import Metrics
    from blocksnapd.ports import Clock

LOOK_INTERVAL_S = 30.0


class TargetWatch:
    """Looks at every target now and then. Event loop only."""

    def __init__(self, targets: dict[str, Target], metrics: Metrics, clock: Clock) -> None:
        self._targets = targets
        self._metrics = metrics
        self._clock = clock
        self._told = dict.fromkeys(targets, Counts())
        self._seen: dict[str, TargetStatus] = {
            name: {"name": name, "url": t.url, "up": None, "free_bytes": None, "message": ""}
            for name, t in targets.items()
        }

    def reconfigure(self, config: Config) -> None:
        """Look at the targets of ``config`` from now on, at each of them soon."""
        fresh = TargetWatch(config.targets, self._metrics, self._clock)
        same = [name for name, t in config.targets.items() if self._targets.get(name) == t]
        self._seen = fresh._seen | {name: self._seen[name] for name in same}
        self._told = fresh._told | {name: self._told[name] for name in same}
        self._targets = config.targets

    def messages(self) -> list[TargetStatus]:
        """Return every target as last seen."""
        return list(self._seen.values())

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for name, target in tuple(self._targets.items()):
                await self.look(name, target)
            await self._clock.sleep(LOOK_INTERVAL_S)

    async def look(self, name: str, target: Target) -> None:
        """Look at one target now."""
        free, rtt, is_up, message = None, None, False, ""
        begun = self._clock.monotonic()
        try:
            free = await asyncio.to_thread(_free, target)
            is_up, rtt = True, self._clock.monotonic() - begun
        except BlocksnapError as error:
            message = error.sentences()
        except OSError as error:
            message = str(error)
        if self._targets.get(name) != target:
            return  # reconfigured meanwhile
        self._seen[name] = {
            "name": name,
            "url": target.url,
            "up": is_up,
            "free_bytes": free,
            "message": message,
        }
        self._metrics.target(name, is_up=is_up, free=free, rtt=rtt)
        offset_s = clock_offset_s(target.url, target.access) if is_up else None
        self._metrics.target_clock(name, offset_s)
        self._tell_line(name, target)

    def _tell_line(self, name: str, target: Target) -> None:
        now, before = line_to(target.url, target.access.traffic).counts(), self._told[name]
        self._told[name] = now
        self._metrics.target_line(
            name,
            sent=now.sent_bytes - before.sent_bytes,
            throttled_s=now.throttled_s - before.throttled_s,
            retries=now.retries - before.retries,
            stalls=now.stalls - before.stalls,
        )


async def reach(target: Target) -> list[str]:
    """Open the repository at ``target``; there is nothing to repair, so nothing to tell.

    Raises:
        BlocksnapError: it can't be opened.
    """
    await asyncio.to_thread(_free, target)
    return []


def _free(target: Target) -> int | None:
    Repository.open(target.url, access=target.access, source_key=target.source_key)
    return open_store(target.url, target.access).free_size()
