"""The lag of a loop that was blocked, and of one that was not."""

from __future__ import annotations

import asyncio
import time

from blocksnapd.runtime import loop_lag
from blocksnapd.runtime.clock import ManualClock, SystemClock


async def test_a_loop_in_time_has_no_lag() -> None:
    clock, seen = ManualClock(), list[float]()
    watching = asyncio.create_task(loop_lag.watch(clock, seen.append))
    await clock.advance(3 * loop_lag.INTERVAL_S)
    watching.cancel()
    assert seen == [0, 0, 0]


async def test_what_blocks_the_loop_is_seen() -> None:
    seen: list[float] = []
    has_seen = asyncio.Event()

    def note(seconds: float) -> None:
        seen.append(seconds)
        has_seen.set()

    watching = asyncio.create_task(loop_lag.watch(SystemClock(), note))
    await asyncio.sleep(0)
    time.sleep(loop_lag.INTERVAL_S + 0.2)  # noqa: ASYNC251 - this is what it is about
    async with asyncio.timeout(20):
        await has_seen.wait()
    watching.cancel()
    assert 0.2 <= seen[0] < 10
