"""The Grafana dashboard: well formed, nothing overlaps, and its expressions are PromQL."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.test_rules import PROMTOOL

DASHBOARD = Path(__file__).parent.parent / "packaging" / "grafana" / "blocksnap.json"
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
ROWS = [
    "Exposure against the promise", "COW devices", "Throughput", "Targets and retention",
    "Verification and drills",
]  # fmt: skip


def test_it_fits_any_grafana() -> None:
    assert BOARD["uid"] == "blocksnap"
    assert "id" not in BOARD
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "instance", "volume", "target"]
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in PANELS)
    assert [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"] == ROWS
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_no_panel_lies_on_another() -> None:
    for one, other in itertools.combinations([p["gridPos"] for p in BOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
        assert one["x"] + one["w"] <= 24


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")
def test_every_expression_is_promql(tmp_path: Path) -> None:
    """As rules, which promtool reads; Grafana's own variables stand for a duration and a name."""
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert len(expressions) > 30
    rules = [
        {"record": f"x:y:{number}", "expr": re.sub(r"\$__rate_interval", "5m", text)}
        for number, text in enumerate(expressions)
    ]
    # JSON is YAML, too.
    (tmp_path / "x.yml").write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(tmp_path / "x.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
