"""The book of runs: what is remembered, waited for, followed and refused."""

from __future__ import annotations

import asyncio

import pytest

from blocksnapd.errors import BusyError, NotFoundError, StoreFullError
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.runs import RUNS_MAX, RunBook


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def book(clock: ManualClock) -> RunBook:
    return RunBook(clock)


async def test_a_run_from_queue_to_end(book: RunBook, clock: ManualClock) -> None:
    run = book.queue("cycle", "v")
    assert (run.message()["state"], book.active("cycle", "v")) == ("queued", run)
    assert "duration" not in run.message()
    book.start(run)
    run.done_bytes, run.expected_bytes = 300, 900
    await clock.advance(3.0)
    message = run.message()
    assert (message["state"], message["rate"], message["eta"]) == ("running", 100.0, 6.0)
    book.finish(run, "failed", StoreFullError("full", effect="none", hint="room"))
    message = run.message()
    assert (message["state"], message["result"], message["rate"]) == ("done", "failed", 0.0)
    assert message["duration"] == 3.0
    assert message["error"] is not None
    assert message["error"]["code"] == "E-REPO-FULL"
    assert book.active("cycle", "v") is None
    assert book.last("v") is run


async def test_a_clock_set_back_shortens_no_run(book: RunBook, clock: ManualClock) -> None:
    run = book.queue("cycle", "v")
    book.start(run)
    await clock.advance(5.0)
    clock.jump(-3600.0)
    book.finish(run, "success")
    assert run.message()["duration"] == 5.0


async def test_a_run_that_never_began_has_no_duration(book: RunBook) -> None:
    run = book.queue("cycle", "v")
    book.finish(run, "cancelled")
    assert run.message()["state"] == "done"
    assert "duration" not in run.message()


async def test_waiting_ends_with_the_run(book: RunBook) -> None:
    run = book.queue("cycle", "v")
    assert (await book.wait(run.run_id, 0.0)).result is None
    waiting = asyncio.create_task(book.wait(run.run_id, 60.0))
    await asyncio.sleep(0)
    book.finish(run, "success")
    assert (await waiting).result == "success"


async def test_following_tells_every_change_and_the_end(book: RunBook) -> None:
    run = book.queue("cycle", "v")
    heard = book.follow(run.run_id)
    assert (await anext(heard))["state"] == "queued"
    book.start(run)
    run.phase = "taken"
    assert (await anext(heard))["phase"] == "taken"
    book.finish(run, "success")
    assert [m["state"] async for m in heard] == ["done"]


async def test_the_last_of_a_volume_is_the_one_that_ended_last(
    book: RunBook, clock: ManualClock
) -> None:
    runs = [book.queue("cycle", "v") for _ in range(3)]
    for index in (1, 0):
        await clock.advance(1.0)
        book.finish(runs[index], "success")
    assert book.last("v") is runs[0]
    assert book.last("w") is None
    assert book.newest_first("v") == runs[::-1]
    assert book.newest_first("w") == []


def test_only_the_last_are_remembered_and_never_an_unfinished_one_forgotten(book: RunBook) -> None:
    waiting = book.queue("cycle", "slow")
    runs = []
    for _ in range(RUNS_MAX + 10):
        runs.append(book.queue("cycle", "v"))
        book.finish(runs[-1], "success")
    assert book.get(waiting.run_id) is waiting
    assert book.get(runs[-1].run_id) is runs[-1]
    with pytest.raises(NotFoundError, match="there is no run"):
        book.get(runs[0].run_id)
    assert len(book.newest_first(None)) <= RUNS_MAX + 1


def test_any_number_of_volumes_may_wait_but_not_of_restores(book: RunBook) -> None:
    """More volumes than the book remembers ended runs: each still gets its cycle."""
    for number in range(3 * RUNS_MAX):
        book.queue("cycle", f"v{number}")
    assert all(book.active("cycle", f"v{number}") for number in range(3 * RUNS_MAX))
    with pytest.raises(BusyError, match="are not done yet"):
        book.queue("restore", "v0")
    assert book.active("restore", "v0") is None


async def test_cancelling(book: RunBook) -> None:
    run = book.queue("cycle", "v")
    with pytest.raises(BusyError, match="has not begun"):
        book.cancel(run.run_id, {"uid": 7})
    asked = []
    run.cancel = lambda: asked.append(run.run_id)
    book.start(run)
    book.cancel(run.run_id, {"pid": 1, "uid": 0, "login": "root"})
    assert asked == [run.run_id]
    assert run.warnings == ["cancelled by root"]
    book.finish(run, "cancelled")
    book.cancel(run.run_id, {"uid": 7})
    assert asked == [run.run_id]  # what is done is left alone
