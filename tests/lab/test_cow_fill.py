"""A COW device filled: the daemon's three answers, and the alert of each."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR
from tests.test_rules import PROMTOOL, RULES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeMachine
    from tests.lab.machine import Event, Result

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB, 8192 * MIB, 8192 * MIB]
VOLUME = '{volume="vg/data"}'

pytestmark = [pytest.mark.lab, pytest.mark.long]


def firing(folder: Path, scenes: list[Event]) -> set[str]:
    """Return the alerts that fire when what was exposed in ``scenes`` comes and stays.

    Each scene is ten minutes of the same; promtool evaluates our rules at the end of the last.
    """
    series = []
    for name in dict.fromkeys(name for scene in scenes for name in scene["metrics"]):
        labels = name.replace("{", '{instance="a",job="blocksnap",')
        values = [f"{scene['metrics'][name]}x9" if name in scene["metrics"] else "_x9"
                  for scene in scenes]  # fmt: skip
        series.append({"series": labels, "values": " ".join(values)})
    found = set()
    known = ("BlocksnapCOWFillingUp", "BlocksnapCOWExtended", "BlocksnapSnapshotInvalidated")
    for alert in known:
        test = {
            "rule_files": [str(RULES / "blocksnap.rules.yml")], "evaluation_interval": "1m",
            "tests": [{
                "interval": "1m", "input_series": series,
                "promql_expr_test": [{
                    "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                    "eval_time": f"{10 * len(scenes) - 1}m", "exp_samples": [],
                }],
            }],
        }  # fmt: skip
        file = folder / "fill.test.yml"
        file.write_text(json.dumps(test))  # JSON is YAML
        assert PROMTOOL is not None
        done = subprocess.run(
            [PROMTOOL, "test", "rules", str(file)], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 or "exp: nil" in said, said
        found |= {alert} if done.returncode else set()
    return found


def value(scene: Event, name: str, labels: str = VOLUME) -> float:
    return float(scene["metrics"][f"blocksnap_{name}{labels}"])


def check_answers(result: Result) -> None:
    start, rotate, grow = (result.event(name) for name in ("start", "rotate", "grow"))
    assert start["cow"]["size"] == 24 * MIB
    assert rotate["points"] == start["points"] + 1  # an hour early
    assert rotate["method"] == "tracked"
    assert value(rotate, "cow_overflows_total") == 0
    assert grow["kernel"] == grow["cow"]["size"] > grow["before"]
    extends = value(grow, "cow_extends_total")
    assert extends == grow["kinds"].count("cow-extended") > value(rotate, "cow_extends_total")
    grown = result.event("grown")
    assert (grown["code"], grown["method"]) == (0, "tracked")  # what grew went on tracking
    overflow, compared = result.event("overflow"), result.event("compared")
    assert overflow["status"] == "Invalid"
    assert overflow["kinds"].count("cow-overflow") == 1
    assert value(overflow, "cow_used_bytes") == value(overflow, "cow_size_bytes")
    assert (compared["method"], compared["run"]["reason"]) == ("compare", "overflow")
    assert value(compared, "cow_overflows_total") == 1
    overflows = '{reason="overflow",volume="vg/data"}'
    assert value(compared, "full_scans_total", overflows) == 1
    assert "cow.size should be" in compared["cow"]["advice"]
    assert compared["cow"]["advised"] > 24 * MIB


def test_three_answers_and_the_alert_of_each(make_machine: MakeMachine, tmp_path: Path) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "cow_fill.py", blank=True, limit_s=600)
    check_answers(result)
    points = result.event("compared-all")["points"]
    assert [p["compared"] for p in points] == ["equal"] * len(points)
    start, rotate, grow, overflow, compared = (
        result.event(n) for n in ("start", "rotate", "grow", "overflow", "compared")
    )
    if PROMTOOL is None:
        pytest.skip("the alerts were not judged: no promtool (Debian: prometheus)")
    # It helped. On a busy host the writes come in bursts, which may make it grow as well.
    assert firing(tmp_path, [start, rotate]) - {"BlocksnapCOWExtended"} == set()
    # Paused as it was, nothing would have emptied it.
    assert firing(tmp_path, [rotate, grow]) == {"BlocksnapCOWExtended", "BlocksnapCOWFillingUp"}
    # Whether it grew once more before it was full is a matter of tenths of a second.
    assert firing(tmp_path, [grow, overflow]) - {"BlocksnapCOWExtended"} == {
        "BlocksnapCOWFillingUp"
    }
    assert firing(tmp_path, [overflow, compared]) == {"BlocksnapSnapshotInvalidated"}
