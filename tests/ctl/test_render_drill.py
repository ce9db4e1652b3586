"""Drills as an operator and an auditor read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from blocksnapctl.render_drill import drill, report, report_plain
from tests.control.test_drill_messages import evidence

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SINCE = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)


def step(name: str, result: str = "success", *found: str) -> dict[str, Any]:
    method = f"how {name} is done"
    return {"name": name, "result": result, "seconds": 1.25, "method": method, "found": [*found]}


GOOD = evidence(steps=[step("readable"), step("restored"), step("fsck", "skipped")])
BAD = evidence(
    id="d-00000bad", result="failed", volume="vg0/mail\x1b[2J",
    steps=[step("readable"), step("restored"), step("check", "failed", "row 7 is lost")],
)  # fmt: skip


def test_a_report_tells_what_how_and_what_is_missing() -> None:
    text = report([GOOD, BAD], ["vg0/never"], SINCE, NOW)
    assert "\x1b" not in text
    assert "2 drills, 1 failed" in text
    assert "2026-10-24" in text
    assert "d-00000bad check: row 7 is lost" in text
    assert text.count("restored: how restored is done") == 1
    assert "Not drilled in this time: vg0/never" in text
    rows = [line for line in text.splitlines() if line.startswith("d-")]
    assert rows[0].split()[-4:] == ["1.2s", "skipped", "1.2s", "-"]
    assert rows[1].endswith("failed 1.2s")


def test_an_empty_report_is_one_line_more_or_less() -> None:
    text = report([], [], SINCE, NOW)
    assert len(text.splitlines()) == 1
    assert "0 drills, 0 failed" in text


def test_lines_for_scripts_have_all_steps() -> None:
    first, second = report_plain([GOOD, BAD]).splitlines()
    assert first.split("\t")[7:] == [
        "success",
        "1.25",
        "success",
        "1.25",
        "skipped",
        "1.25",
        "",
        "",
    ]
    assert second.split("\t")[-2:] == ["failed", "1.25"]


def test_one_drill_is_told_with_all_it_found() -> None:
    text = drill(BAD, NOW)
    assert "\x1b" not in text
    assert "check     failed" in text
    assert "            row 7 is lost" in text
