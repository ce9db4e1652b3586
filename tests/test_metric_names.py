"""Every metric that a rule, a panel, a runbook or a page names is one that the daemon exposes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from blocksnapd.config import load
from blocksnapd.metrics import Metrics

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "packaging" / "examples" / "two-spaces.toml"
NAMING = [
    *(ROOT / "packaging" / "rules").glob("*.yml"),
    *(ROOT / "packaging" / "runbooks").glob("*.md"),
    *(ROOT / "packaging" / "grafana").glob("*.json"),
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
]
NO_METRICS = {"blocksnap_cow"}  # a tag of LVM
PARTS = {"histogram": ("_bucket", "_sum", "_count")}


def exposed(*, in_prose: bool = False) -> set[str]:
    """Return the names of all series that a daemon has, or would have once it knows their value.

    Prose may also name a histogram as a whole, which no expression can ask for.
    """
    metrics = Metrics(CollectorRegistry())
    metrics.configure(load(str(EXAMPLE)))
    text = generate_latest(metrics.registry).decode()
    found = re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.MULTILINE)
    series = {name + part for name, kind in found for part in PARTS.get(kind, ("",))}
    return series | {name for name, _ in found} if in_prose else series


@pytest.mark.parametrize("page", NAMING, ids=lambda page: page.name)
def test_what_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"\b(?:blocksnap|process)_\w+", page.read_text()))
    known = exposed(in_prose=page.suffix == ".md") | NO_METRICS
    assert named <= known, named - known


def test_it_would_be_noticed() -> None:
    names = exposed()
    assert {"blocksnap_runs_total", "blocksnap_freeze_duration_seconds_bucket"} <= names
    assert "blocksnap_runs" not in names
    assert len(NAMING) > 25
