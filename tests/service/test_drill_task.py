"""Drills a daemon starts: when they are due, what becomes of what they say."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd import config as configuration
from blocksnapd.control.messages import format_time
from blocksnapd.errors import KeyMissingError, NotFoundError
from blocksnapd.metrics import Metrics
from blocksnapd.runtime import process
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.drill_book import DrillBook
from blocksnapd.service.drill_task import FIRST_AFTER_S, LOOK_S, RETRY_S, DrillTask
from blocksnapd.service.runs import RunBook
from tests.control.test_drill_messages import STEP, evidence
from tests.service.bench import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400.0
TEXT = """schema = 1
[target.near]
url = "/nowhere/near"
source_key = "/nowhere/source.key"
[volume."db/data"]
driver = "scan"
drill = { every = "7d", key = "/nowhere/restore.key", run = ["/bin/check", "it"] }
[volume."db/log"]
driver = "scan"
"""
LABELS = {"volume": "db/data", "target": "near"}


class Site:
    """A task whose drills say what a test wants."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (path / "blocksnap.toml").write_text(TEXT)
        self.path = path
        self.config = configuration.load(str(path / "blocksnap.toml"))
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.configure(self.config)
        self.clock = ManualClock()
        self.runs = RunBook(self.clock)
        self.book = DrillBook(str(path / "drills"))
        self.said: list[tuple[str, str, str]] = []
        self.asked: list[list[str]] = []
        self.out = ""
        self.has_point = True
        self.gate: asyncio.Event | None = None
        monkeypatch.setattr(process, "run", self.run)
        self.begin()

    def begin(self) -> None:
        """Make a task, as a daemon does that begins."""
        self.task = DrillTask(
            self.config, self.book, self.runs, lambda _: self.has_point,
            metrics=self.metrics, say=self.say, clock=self.clock,
        )  # fmt: skip

    def will_say(self, **changes: Any) -> None:
        ended = format_time(self.clock.now())
        self.out = json.dumps(evidence(volume="db/data", ended=ended, **changes)) + "\n"

    async def run(self, argv: list[str], *, timeout_s: float) -> process.Finished:
        self.asked.append(list(argv))
        if self.gate is not None:
            await self.gate.wait()
        return process.Finished(tuple(argv), 1, self.out, "it hurts", 0.1)

    def say(self, kind: str, message: str, *, severity: str, volume: str, data: Any) -> None:
        self.said.append((kind, severity, volume))

    def value(self, name: str, **more: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"blocksnap_{name}", LABELS | more)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


async def settled(site: Site, condition: Any) -> None:
    """Let threads come back and time pass a little until something is so."""
    for _ in range(1000):
        if condition():
            return
        await site.clock.advance(1.0)
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to that")


async def test_a_drill_becomes_evidence_an_event_and_metrics(site: Site) -> None:
    site.will_say()
    run, joined = site.task.start("db/data", "p1", ROOT)
    await run.done.wait()
    assert not joined
    assert site.asked[0][-3:] == ["drill", "db/data", "p1"]
    assert (run.result, run.point, run.more["drill"]["volume"]) == ("success", "p1", "db/data")
    assert [d["id"] for d in site.book.drills()] == ["d-0123abcd"]
    assert site.said == [("drilled", "info", "db/data")]
    assert site.value("drill_last_success_timestamp_seconds") == site.clock.now()
    assert site.value("drill_last_duration_seconds", step="fsck") == 1.5
    assert site.value("drill_failed") == 0


async def test_one_that_fails_is_an_event_and_no_success(site: Site) -> None:
    bad = {**STEP, "result": "failed", "found": ["inode 12 is gone"]}
    site.will_say(result="failed", steps=[bad])
    run, _ = site.task.start("db/data")
    await run.done.wait()
    assert (run.result, run.error["code"]) == ("failed", "E-DRILL")  # type: ignore[index]
    assert "inode 12 is gone" in run.error["message"]  # type: ignore[index]
    assert site.said == [("drill-failed", "critical", "db/data")]
    assert site.value("drill_failed") == 1
    assert site.value("drill_last_success_timestamp_seconds") is None


async def test_one_that_proves_less_than_it_should_is_a_warning(site: Site) -> None:
    site.will_say(result="warning", steps=[{**STEP, "result": "warning"}])
    run, _ = site.task.start("db/data")
    await run.done.wait()
    assert (run.result, site.said) == ("warning", [("drilled", "warning", "db/data")])


@pytest.mark.parametrize("out", ["", "nonsense\n", "{}\n"])
async def test_one_without_a_result_is_told(site: Site, out: str) -> None:
    site.out = out
    run, _ = site.task.start("db/data")
    await run.done.wait()
    assert run.result == "failed"
    assert "it hurts" in run.error["message"]  # type: ignore[index]
    assert site.said == [("drill-failed", "error", "db/data")]
    assert site.book.drills() == []


async def test_who_asks_meanwhile_joins_and_who_cancels_ends_it(site: Site) -> None:
    site.gate = asyncio.Event()
    run, _ = site.task.start("db/data")
    assert site.task.start("db/data") == (run, True)
    await asyncio.sleep(0)
    site.runs.cancel(run.run_id, ROOT)
    await run.done.wait()
    assert run.result == "cancelled"
    again, joined = site.task.start("db/data")
    assert not joined
    await asyncio.sleep(0)
    await site.task.close()
    assert again.result == "cancelled"


async def test_what_it_cannot_drill_is_told(site: Site) -> None:
    with pytest.raises(NotFoundError, match="db/none"):
        site.task.start("db/none")
    with pytest.raises(KeyMissingError) as caught:
        site.task.start("db/log")
    assert "--key" in caught.value.hint


async def test_it_is_due_by_the_evidence_of_the_last_one(site: Site) -> None:
    last = evidence(volume="db/data", ended=format_time(site.clock.now() - 6 * DAY_S))
    site.book.keep(last)
    site.will_say()
    task = asyncio.create_task(site.task.run())
    await settled(site, lambda: site.value("drill_last_success_timestamp_seconds"))
    await site.clock.advance(DAY_S - FIRST_AFTER_S - 2000)
    assert not site.asked, "it was drilled six days ago"
    await site.clock.advance(FIRST_AFTER_S + 2000 + LOOK_S)
    await settled(site, lambda: len(site.book.drills()) == 2)
    assert len(site.asked) == 1
    assert site.asked[0][-2:] == ["drill", "db/data"]
    await site.clock.advance(DAY_S)
    assert len(site.asked) == 1
    task.cancel()


async def test_one_that_failed_is_tried_again_sooner_and_none_without_a_point(site: Site) -> None:
    site.has_point = False
    task = asyncio.create_task(site.task.run())
    await settled(site, lambda: site.clock.sleeping)
    await site.clock.advance(FIRST_AFTER_S + 10 * LOOK_S)
    assert not site.asked
    site.has_point = True
    await settled(site, lambda: len(site.said) == 1)
    await site.clock.advance(RETRY_S / 2)
    assert len(site.asked) == 1
    await site.clock.advance(RETRY_S)
    await settled(site, lambda: len(site.said) == 2)
    task.cancel()
