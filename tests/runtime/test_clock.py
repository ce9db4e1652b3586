"""Both clocks keep the port's promises; the one turned by hand keeps order."""

from __future__ import annotations

import asyncio
import time

from blocksnapd.runtime.clock import ManualClock, SystemClock


async def test_system_clock_is_the_system_s() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.01)
    await clock.sleep(-1)
    assert clock.monotonic() - before >= 0.01
    assert abs(clock.now() - time.time()) < 5


async def test_sleepers_wake_in_order_at_their_moment() -> None:
    clock, woken = ManualClock(now=500.0, monotonic=0.0), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic(), clock.now()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("b", 2, 2))
        group.create_task(sleeper("a", 1, 2))
        await clock.advance(2.5)
        assert clock.sleeping == 2
        assert woken == [("a", 1, 501), ("b", 2, 502)]
        await clock.advance(10)
    assert [name for name, _, _ in woken] == ["a", "b", "a", "b"]
    assert woken[-2:] == [("a", 3, 503), ("b", 4, 504)]
    assert (clock.monotonic(), clock.now()) == (12.5, 512.5)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.advance(1)
    assert clock.sleeping == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleeping == 0
    await clock.advance(10)


async def test_wall_clock_may_jump_alone() -> None:
    clock = ManualClock(now=100.0, monotonic=7.0)
    clock.jump(-50)
    assert (clock.now(), clock.monotonic()) == (50, 7)
    await clock.sleep(0)
