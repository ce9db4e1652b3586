"""``drill`` and ``report``: what is asked of whom, and where evidence goes. Whole: tests/flow."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapctl.drilling import own_evidence
from blocksnapd.errors import DrillFailedError
from tests.control.serving import serving
from tests.control.test_drill_messages import evidence
from tests.ctl.calling import call, calling

if TYPE_CHECKING:
    from pathlib import Path

LATER = {"ended": "2099-11-23T01:10:00.000Z"}  # within whatever time is asked for


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


async def test_without_a_key_the_daemon_drills() -> None:
    async with serving() as served:
        where = ("--socket", served.path)
        found: Any = evidence()
        served.operations.script = [{"drill": found}, {"state": "done", "result": "success"}]
        done = await calling("drill", "vg0/home", "--json", *where)
        assert done.lines[-1]["id"] == "d-0123abcd", done
        await calling("drill", "vg0/home@latest", *where)
        asked = [request for request, _ in served.operations.asked]
        assert asked[0] == {"kind": "drill", "volume": "vg0/home"}
        assert asked[1] == {**asked[0], "point": "p0003000000000000"}
        done = await calling("drill", "vg0/home", "--check", "x", *where)
        assert (done.code, len(served.operations.asked)) == (2, 2)


async def test_a_drill_that_fails_ends_with_1_and_what_was_found() -> None:
    async with serving() as served:
        bad = {
            "name": "check",
            "result": "failed",
            "seconds": 1.0,
            "method": "m",
            "found": ["lost"],
        }
        found: Any = evidence(result="failed", steps=[bad])
        error = DrillFailedError("the drill failed: check: lost")
        served.operations.script = [
            {"drill": found},
            {"state": "done", "result": "failed", "error": {"message": error.message,
             "code": error.code, "exit_code": 1}},
        ]  # fmt: skip
        done = await calling("drill", "vg0/home", "--socket", served.path)
        assert done.code == 1
        assert "lost" in done.out
        assert "E-DRILL" in done.err


async def test_a_report_is_of_the_daemons_and_of_our_own_drills() -> None:
    keep("nonsense\n{}\n" + json.dumps(evidence(id="d-00000001", **LATER)) + "\n")
    async with serving() as served:
        served.operations.drilled = [evidence(id="d-00000002", **LATER)]  # type: ignore[list-item]
        found = await calling("report", "--json", "--socket", served.path)
        assert [d["id"][-1] for d in found.lines[0]["drills"]] == ["1", "2"]
        assert found.lines[0]["undrilled"] == ["/srv/disk image.raw"]
        found = await calling("report", "/srv/disk image.raw", "--socket", served.path)
        assert "0 drills" in found.out
        assert "Not drilled in this time: /srv/disk image.raw" in found.out
    found = call("report", "--plain", "--socket", "/nowhere/x")
    assert found.out.startswith("d-00000001\t")
    assert "Only drills that were made without the daemon" in found.err


def keep(text: str) -> None:
    os.makedirs(os.path.dirname(own_evidence()))
    with open(own_evidence(), "w", encoding="utf-8") as file:
        file.write(text)


def test_a_report_of_nobody_is_none() -> None:
    assert call("report", "--socket", "/nowhere/x").code == 10
