"""The rounds of maintenance the daemon starts: when, and what it makes of what they say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd import config as configuration
from blocksnapd.metrics import Metrics
from blocksnapd.runtime import process
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.maintenance import FIRST_AFTER_S, MaintenanceTask, read_lines

TEXT = """schema = 1
[maintenance]
every = "10m"
[target.near]
url = "/nowhere/near"
source_key = "/nowhere/source.key"
maintenance_key = "/nowhere/maintenance.key"
[target.far]
url = "/nowhere/far"
source_key = "/nowhere/source.key"
[volume."db/data"]
targets = ["near"]
driver = "scan"
"""


class Site:
    """A task whose rounds say what a test wants."""

    def __init__(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "blocksnap.toml"
        path.write_text(TEXT)
        config = configuration.load(str(path))
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.configure(config)
        self.clock = ManualClock()
        self.said: list[tuple[str, str, str]] = []
        self.refreshed: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.status = 0
        self.argv: list[str] = []
        monkeypatch.setattr(process, "run", self.run)
        self.task = MaintenanceTask(
            config, self.refresh, metrics=self.metrics, say=self.say, clock=self.clock
        )

    async def run(self, argv: list[str], *, timeout_s: float) -> process.Finished:
        self.argv = list(argv)
        out = "".join(json.dumps(line) + "\n" for line in self.lines)
        return process.Finished(tuple(argv), self.status, out, "it hurts", 0.1)

    async def refresh(self, target: str) -> None:
        self.refreshed.append(target)

    def say(self, kind: str, message: str, *, severity: str, volume: str, data: Any) -> None:
        self.said.append((kind, severity, volume))

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"blocksnap_{name}", labels)


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


VOLUME = {"volume": "db/data", "target": "near"}


def line(kind: str, message: str = "", **data: object) -> dict[str, Any]:
    return {
        "type": kind, "message": message, "volume": "db/data", "severity": "warning", "data": data,
    }  # fmt: skip


async def test_a_round_becomes_events_and_metrics(site):
    site.lines = [
        line("pruned", "4 points forgotten", points=4),
        line("state", points=7, forgotten=4, unmerged=3),
        line("verified", "whole", level="data", damaged_blocks=0, read_bytes=4096),
        line("collected", "5 objects deleted", bytes=1000),
    ]
    await site.task.maintain("near")
    assert site.argv[-3:] == ["maintain", "--json", "near"]
    assert [said[0] for said in site.said] == ["pruned", "verified", "collected"]
    assert site.value("pruned_points_total", **VOLUME) == 4
    assert site.value("prune_blocked", **VOLUME) == 0
    assert site.value("points", **VOLUME) == 7
    assert site.value("forgotten_points", **VOLUME) == 4
    assert site.value("unmerged_points", **VOLUME) == 3
    assert site.value("verified_bytes_total", **VOLUME) == 4096
    assert site.value("collected_bytes_total", **VOLUME) == 1000
    now = site.clock.now()
    assert site.value("maintenance_last_success_timestamp_seconds", target="near") == now
    assert site.value("verify_last_success_timestamp_seconds", kind="data", **VOLUME) == now
    assert site.refreshed == ["near"]


async def test_damage_and_a_guard_show_in_the_metrics(site):
    site.lines = [
        line("prune-stopped", "too many"),
        line("damage-found", "a pack is damaged", level="structure", damaged_blocks=9),
    ]
    await site.task.maintain("near")
    assert site.value("prune_blocked", **VOLUME) == 1
    assert site.value("corrupt_blocks", **VOLUME) == 9
    assert site.value("verify_last_success_timestamp_seconds", kind="structure", **VOLUME) is None


async def test_a_failed_round_is_told(site):
    site.status = 1
    await site.task.maintain("near")
    assert site.said == [("maintenance-failed", "error", "")]
    assert site.value("maintenance_last_success_timestamp_seconds", target="near") is None
    assert site.refreshed == ["near"]


async def test_rounds_come_soon_after_the_start_and_then_at_their_time(site):
    running = asyncio.create_task(site.task.run())
    await site.clock.advance(FIRST_AFTER_S - 1)
    assert site.refreshed == []
    await site.clock.advance(2)
    assert site.refreshed == ["near"]  # there is no key for far
    await site.clock.advance(598)
    assert len(site.refreshed) == 1
    await site.clock.advance(2)
    assert len(site.refreshed) == 2
    running.cancel()


def test_what_is_no_event_is_passed_over():
    assert list(read_lines('{"type": "x"}\nnot json\n[1]\n\n')) == [{"type": "x"}]
