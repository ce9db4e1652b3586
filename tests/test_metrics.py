"""The exposition, read back by Prometheus' own parser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from blocksnapd.config import load
from blocksnapd.metric_table import REASONS, RESULTS, TABLE
from blocksnapd.metrics import Metrics

EXAMPLE = Path(__file__).parent.parent / "packaging" / "examples" / "two-spaces.toml"
MAIL = {"volume": "data/mail", "target": "usb"}


@pytest.fixture
def metrics() -> Metrics:
    found = Metrics(CollectorRegistry())
    found.configure(load(str(EXAMPLE)))
    return found


def samples(metrics: Metrics) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    text = generate_latest(metrics.registry).decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get(f"blocksnap_{name}", {}).get(frozenset(labels.items()))


def test_every_series_of_a_volume_exists_at_start(metrics: Metrics) -> None:
    for name in ("consecutive_failures", "run_active", "points", "corrupt_blocks",
                 "transferred_bytes_total", "stored_bytes_total"):  # fmt: skip
        assert value(metrics, name, **MAIL) == 0, name
    for name in ("changed_bytes_total", "cow_overflows_total", "proof_mismatched_blocks_total"):
        assert value(metrics, name, volume="data/mail") == 0, name
    for result in RESULTS:
        assert value(metrics, "runs_total", **MAIL, kind="cycle", result=result) == 0
    for reason in REASONS:
        assert value(metrics, "full_scans_total", volume="data/mail", reason=reason) == 0
    assert value(metrics, "freeze_duration_seconds_count", volume="data/mail") == 0
    assert value(metrics, "target_up", target="near") == 0
    assert value(metrics, "rpo_target_seconds", **MAIL) == 1800
    assert value(metrics, "schedule_interval_seconds", volume="data/mail") == 900


def test_absence_means_never(metrics: Metrics) -> None:
    for name in ("last_point_timestamp_seconds", "verify_last_success_timestamp_seconds"):
        assert value(metrics, name, **MAIL) is None
    name = "verify_last_success_timestamp_seconds"
    metrics.verified(**MAIL, kind="data", is_whole=False, corrupt=3, read=100, now=5.0)
    assert value(metrics, name, **MAIL, kind="data") is None
    assert value(metrics, "corrupt_blocks", **MAIL) == 3
    metrics.verified(**MAIL, kind="data", is_whole=True, corrupt=0, read=50, now=9.0)
    assert value(metrics, name, **MAIL, kind="data") == 9
    assert value(metrics, name, **MAIL, kind="structure") is None
    assert value(metrics, "verified_bytes_total", **MAIL) == 150
    metrics.tracking_lied("vg0/mail", blocks=4)
    assert value(metrics, "untracked_blocks_total", volume="vg0/mail") == 4
    assert value(metrics, "corrupt_blocks", **MAIL) == 0


def test_drills(metrics: Metrics) -> None:
    name = "drill_last_success_timestamp_seconds"
    assert value(metrics, name, **MAIL) is None
    seconds = {"readable": 0.5, "restored": 60.0}
    metrics.drilled(*MAIL.values(), seconds, is_good=True, now=7.0)
    assert value(metrics, name, **MAIL) == 7
    assert value(metrics, "drill_last_duration_seconds", **MAIL, step="restored") == 60
    assert value(metrics, "drill_failed", **MAIL) == 0
    metrics.drilled(*MAIL.values(), {"readable": 9.0}, is_good=False, now=8.0)
    assert (value(metrics, name, **MAIL), value(metrics, "drill_failed", **MAIL)) == (7, 1)
    assert value(metrics, "drill_last_duration_seconds", **MAIL, step="readable") == 9


def test_a_run_that_commits(metrics: Metrics) -> None:
    metrics.run_started(**MAIL)
    metrics.run_progress(**MAIL, done=10, expected=40, now=7.0)
    assert value(metrics, "run_active", **MAIL) == 1
    assert value(metrics, "run_done_bytes", **MAIL) == 10
    assert value(metrics, "run_expected_bytes", **MAIL) == 40
    assert value(metrics, "run_last_progress_timestamp_seconds", **MAIL) == 7
    metrics.phase("transfer", 0.7)
    metrics.freeze("data/mail", 0.003)
    metrics.point_committed(**MAIL, time=1234.5, changed=100, shipped=60, stored=30)
    metrics.run_finished(**MAIL, kind="cycle", result="success")
    assert value(metrics, "run_active", **MAIL) == 0
    assert value(metrics, "runs_total", **MAIL, kind="cycle", result="success") == 1
    assert value(metrics, "last_point_timestamp_seconds", **MAIL) == 1234.5
    assert value(metrics, "changed_bytes_total", volume="data/mail") == 100
    assert value(metrics, "transferred_bytes_total", **MAIL) == 60
    assert value(metrics, "stored_bytes_total", **MAIL) == 30
    assert value(metrics, "phase_duration_seconds_sum", phase="transfer") == 0.7
    assert value(metrics, "phase_duration_seconds_bucket", phase="transfer", le="0.5") == 0
    assert value(metrics, "freeze_duration_seconds_bucket", volume="data/mail", le="0.005") == 1


def test_a_run_that_fails(metrics: Metrics) -> None:
    metrics.run_finished(**MAIL, kind="cycle", result="failed", code="E-REPO-FULL")
    metrics.failures_in_a_row(**MAIL, count=4)
    assert value(metrics, "run_failures_total", **MAIL, code="E-REPO-FULL") == 1
    assert value(metrics, "consecutive_failures", **MAIL) == 4


def test_states_of_volume_space_and_target(metrics: Metrics) -> None:
    metrics.cow("data/mail", size=100, used=4)
    metrics.cow_overflow("data/mail")
    metrics.cow_disk_free("data", 77)
    metrics.full_scan("data/mail", "overflow")
    metrics.volume_size("data/mail", 1 << 40)
    metrics.points(**MAIL, count=612)
    metrics.target("usb", is_up=True, free=5)
    metrics.target("near", is_up=False)
    metrics.proof("data/mail", checked=9, mismatched=2)
    assert value(metrics, "cow_used_bytes", volume="data/mail") == 4
    assert value(metrics, "cow_size_bytes", volume="data/mail") == 100
    assert value(metrics, "cow_overflows_total", volume="data/mail") == 1
    assert value(metrics, "cow_disk_free_bytes", space="data") == 77
    assert value(metrics, "full_scans_total", volume="data/mail", reason="overflow") == 1
    assert value(metrics, "volume_size_bytes", volume="data/mail") == 1 << 40
    assert value(metrics, "points", **MAIL) == 612
    assert value(metrics, "target_up", target="usb") == 1
    assert value(metrics, "target_free_bytes", target="usb") == 5
    assert value(metrics, "target_free_bytes", target="near") is None
    assert value(metrics, "proof_checked_blocks_total", volume="data/mail") == 9
    assert value(metrics, "proof_mismatched_blocks_total", volume="data/mail") == 2


def test_process_and_build_are_there(metrics: Metrics) -> None:
    found = samples(metrics)
    assert found["process_resident_memory_bytes"][frozenset()] > 1 << 20
    assert list(found["blocksnap_build_info"].values()) == [1]
    assert not [name for name in found if name.endswith("_created")]


def test_no_series_is_outside_the_table(metrics: Metrics) -> None:
    text = generate_latest(metrics.registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    table = {f"blocksnap_{row.name.removesuffix('_total')}" for row in TABLE}
    assert {name for name in names if name.startswith("blocksnap_")} == table


def test_every_reason_the_code_gives_has_its_series() -> None:
    package = EXAMPLE.parent.parent.parent / "blocksnapd"
    given: set[str] = set()
    for file in ("cycle/rotation.py", "pipeline.py", "shipping.py", "service/volume_task.py"):
        text = (package / file).read_text()
        given |= set(
            re.findall(r'(?:reason=|compare=|_compare\(|_start_afresh\()"([a-z-]+)"', text)
        )
    assert {"first", "grown"} <= given <= set(REASONS)
