"""The event log: numbers only grow, nothing is lost that was shown, readers can come back."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from blocksnapd.control.events import FILE_NAME, EventLog
from blocksnapd.runtime import durable
from blocksnapd.runtime.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def seqs(log: EventLog, since: int = 0) -> list[int]:
    return [event["seq"] async for event in log.events(since, follow=False)]


async def filled(folder: Path, count: int, **limits: int) -> EventLog:
    log = await EventLog.open(str(folder), ManualClock(), **limits)
    for number in range(count):
        log.say("point", f"number {number}", volume="vg0/home")
        await log.flush()
    return log


async def test_an_event_is_whole(tmp_path: Path) -> None:
    log = await EventLog.open(str(tmp_path), ManualClock(now=0.0))
    log.say("proof-mismatch", "bad", severity="critical", volume="vg0/x", data={"blocks": 2})
    await log.flush()
    wanted = {
        "schema": 1, "seq": 1, "time": "1970-01-01T00:00:00.000Z", "type": "proof-mismatch",
        "severity": "critical", "volume": "vg0/x", "message": "bad", "data": {"blocks": 2},
    }  # fmt: skip
    assert [event async for event in log.events(0, follow=False)] == [wanted]
    assert json.loads((tmp_path / FILE_NAME).read_text()) == wanted


@pytest.mark.parametrize(
    ("since", "wanted"),
    [(0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (99, []), (-2, [4, 5]), (-99, [1, 2, 3, 4, 5])],
)
async def test_since(tmp_path: Path, since: int, wanted: list[int]) -> None:
    assert await seqs(await filled(tmp_path, 5), since) == wanted


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    await filled(tmp_path, 3)
    log = await filled(tmp_path, 2)
    assert await seqs(log) == [1, 2, 3, 4, 5]
    assert [event["seq"] for event in log.recent()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("cut", [1, 5, 30])
async def test_a_torn_line_is_forgotten(tmp_path: Path, cut: int) -> None:
    await filled(tmp_path, 3)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-cut])
    log = await filled(tmp_path, 1)
    texts = [event["message"] async for event in log.events(0, follow=False)]
    assert texts[:2] == ["number 0", "number 1"]
    assert texts[-1] == "number 0"
    found = await seqs(log)
    assert found == sorted(set(found))
    for line in path.read_text().splitlines():
        json.loads(line)


async def test_garbage_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'\xff\n[]\n{"seq": "x"}\n{"seq": 7, "message": "m"}\n\n')
    assert await seqs(await filled(tmp_path, 1)) == [7, 8]


async def test_a_reader_behind_memory_is_served_from_the_file(tmp_path: Path) -> None:
    log = await filled(tmp_path, 20, memory_max=3)
    assert len(log.recent()) == 3
    assert await seqs(log, 2) == list(range(3, 21))


async def test_the_file_stays_within_its_limit(tmp_path: Path) -> None:
    log = await filled(tmp_path, 60, file_size_max=2000, memory_max=2)
    path = tmp_path / FILE_NAME
    assert path.stat().st_size <= 2000
    found = await seqs(log)
    assert found[-1] == 60
    assert found == list(range(found[0], 61))
    again = await EventLog.open(str(tmp_path), ManualClock())
    assert again.last_seq == 60


@asynccontextmanager
async def writing(log: EventLog) -> AsyncIterator[None]:
    task = asyncio.create_task(log.write_forever())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_follower_hears_what_threads_say_in_order(tmp_path: Path) -> None:
    log = await filled(tmp_path, 2)

    def speak(name: str) -> None:
        for number in range(50):
            log.say("x", f"{name}{number}")

    async with writing(log), aclosing(log.events(1, follow=True)) as events:
        assert (await anext(events))["seq"] == 2
        threads = [threading.Thread(target=speak, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        heard = [await anext(events) for _ in range(100)]
        for thread in threads:
            thread.join()
    assert [event["seq"] for event in heard] == list(range(3, 103))
    for name in "ab":
        said = [e["message"] for e in heard if e["message"].startswith(name)]
        assert said == [f"{name}{number}" for number in range(50)]


async def test_two_followers_and_one_that_leaves(tmp_path: Path) -> None:
    log = await filled(tmp_path, 0)
    async with writing(log), aclosing(log.events(0, follow=True)) as stays:
        leaves = log.events(0, follow=True)
        log.say("x", "one")
        assert (await anext(leaves))["message"] == "one"
        await leaves.aclose()
        log.say("x", "two")
        assert [(await anext(stays))["message"] for _ in range(2)] == ["one", "two"]


async def test_a_full_disk_costs_the_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half a line and fails; once it has room, the file is whole lines again."""
    log = await filled(tmp_path, 1)
    append = durable.append

    def full(path: str, data: bytes) -> None:
        append(path, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "append", full)
    log.say("x", "in memory")
    await log.flush()
    monkeypatch.setattr(durable, "append", append)
    log.say("x", "on disk again")
    await log.flush()
    assert await seqs(log) == [1, 2, 3]
    kept = [json.loads(line)["seq"] for line in (tmp_path / FILE_NAME).read_text().splitlines()]
    assert kept == [1, 3]


async def test_said_after_the_loop_closed_is_no_error(tmp_path: Path) -> None:
    log = await filled(tmp_path, 1)

    class Closed:
        def call_soon_threadsafe(self, *_: object) -> None:
            raise RuntimeError("Event loop is closed")

    log._loop = Closed()  # type: ignore[assignment]
    log.say("x", "late")
