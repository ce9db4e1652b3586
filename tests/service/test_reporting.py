"""What a cycle reports becomes the run's, the metrics' and the event log's."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.metrics import Metrics
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.reporting import CycleReporter
from blocksnapd.service.runs import LiveRun, RunBook
from blocksnapd.ship.shipper import Progress

Said = list[tuple[str, str, str, dict[str, object]]]


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def run() -> LiveRun:
    found = RunBook(ManualClock()).queue("cycle", "vg0/home")
    found.target = "near"
    return found


@pytest.fixture
def reporter(run: LiveRun, registry: CollectorRegistry, said: Said) -> CycleReporter:
    def say(
        kind: str, message: str, *, severity: str, volume: str, data: dict[str, object]
    ) -> None:
        assert volume == "vg0/home"
        said.append((kind, severity, message, data))

    return CycleReporter(run, Metrics(registry), say, ManualClock())


def test_phases_add_up_and_the_freeze_is_none_of_them(
    reporter: CycleReporter, run: LiveRun, registry: CollectorRegistry
) -> None:
    for name, seconds in (("scan", 1.0), ("scan", 2.0), ("freeze", 0.25), ("commit", 0.5)):
        reporter.phase(name, seconds)
    assert (run.phases, run.suspend_s) == ({"scan": 3.0, "commit": 0.5}, 0.25)
    freeze = registry.get_sample_value(
        "blocksnap_freeze_duration_seconds_sum", {"volume": "vg0/home"}
    )
    assert freeze == 0.25


def test_progress(reporter: CycleReporter, run: LiveRun, registry: CollectorRegistry) -> None:
    reporter.step("listed")
    reporter.progress(Progress(done=10, total=40, changed=5))
    assert (run.phase, run.done_bytes, run.expected_bytes) == ("listed", 10, 40)
    assert run.changed_bytes == 5
    labels = {"volume": "vg0/home", "target": "near"}
    assert registry.get_sample_value("blocksnap_run_done_bytes", labels) == 10


def test_events_are_warnings_of_the_run_with_a_severity_each(
    reporter: CycleReporter, run: LiveRun, registry: CollectorRegistry, said: Said
) -> None:
    reporter.event("proof-mismatch", "block 7", suspect="p1")
    reporter.event("tracking-lost", "overflow")
    reporter.event("something-new", "text")
    assert run.warnings == ["block 7", "overflow", "text"]
    assert [s[1] for s in said] == ["critical", "error", "warning"]
    assert said[0][3] == {"suspect": "p1"}
    overflows = registry.get_sample_value("blocksnap_cow_overflows_total", {"volume": "vg0/home"})
    assert overflows == 1
