"""Tasks that live and die together."""

from __future__ import annotations

import asyncio
import logging

import pytest

from blocksnapd.runtime import supervise
from blocksnapd.runtime.supervise import EternalTaskEnded, Supervisor


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> int:
    return 7


async def broken() -> None:
    raise OSError("disk gone")


async def test_an_eternal_task_that_ends_stops_all() -> None:
    others: list[asyncio.Task[None]] = []

    async def flow() -> None:
        async with Supervisor() as tasks:
            others.append(tasks.eternal("other", forever()))
            tasks.eternal("scheduler", at_once())

    with pytest.raises(ExceptionGroup) as caught:
        await flow()
    assert [type(e) for e in caught.value.exceptions] == [EternalTaskEnded]
    assert "scheduler" in str(caught.value.exceptions[0])
    assert others[0].cancelled()


async def test_an_error_comes_out() -> None:
    async def flow() -> None:
        async with Supervisor() as tasks:
            tasks.eternal("other", forever())
            tasks.passing("reader", broken())

    with pytest.raises(ExceptionGroup) as caught:
        await flow()
    assert caught.group_contains(OSError, match="disk gone")


async def test_passing_tasks_may_end() -> None:
    async with Supervisor() as tasks:
        task = tasks.passing("once", at_once())
        await task
        assert tasks.names == []


async def test_stop_ends_all_in_good_order() -> None:
    async with Supervisor() as tasks:
        tasks.eternal("b", forever())
        tasks.passing("a", forever())
        await asyncio.sleep(0)
        assert tasks.names == ["a", "b"]
        tasks.stop()
    assert tasks.names == []


async def test_the_stuck_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning itself lets the stubborn task go: no waiting for a guess of time."""
    monkeypatch.setattr(supervise, "STUCK_AFTER_S", 0.02)
    released, told = asyncio.Event(), []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())
            released.set()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()

    listener = Listener()
    supervise.log.addHandler(listener)
    try:
        async with Supervisor() as tasks:
            tasks.eternal("stubborn", stubborn())
            tasks.eternal("easy", forever())
            await asyncio.sleep(0)
            tasks.stop()
    finally:
        supervise.log.removeHandler(listener)
    assert told == ["still not stopped: stubborn"]
