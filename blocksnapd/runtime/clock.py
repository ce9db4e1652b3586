"""Time: the system's, and one that a test turns by hand. Edge."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time

SETTLE_TURNS = 20  # turns of the event loop that a woken task gets before time goes on


class SystemClock:
    """The port ``Clock`` on the system's clocks."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(max(0.0, seconds))


class ManualClock:
    """The port ``Clock`` turned by hand: who sleeps wakes when ``advance`` passes the moment."""

    def __init__(self, *, now: float = 1_800_000_000.0, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Return seconds since the epoch, as set."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was turned by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), wake))
        await wake

    @property
    def sleeping(self) -> int:
        """How many tasks wait on this clock."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forth or back without time passing."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; each sleeper wakes at its moment and runs before the next one."""
        await self._settle()
        end = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, wake = heapq.heappop(self._sleepers)
            self._turn_to(moment)
            if not wake.done():
                wake.set_result(None)
            await self._settle()
        self._turn_to(end)

    def _turn_to(self, moment: float) -> None:
        self._now += moment - self._monotonic
        self._monotonic = moment

    async def _settle(self) -> None:
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)
