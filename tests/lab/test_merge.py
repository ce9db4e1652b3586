"""The kernel merges a point into its volume: there at once, tracked, and over a killed machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR, repeat_aborted

if TYPE_CHECKING:
    from tests.conftest import MakeMachine
    from tests.lab.machine import Result

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB, 4096 * MIB, 8192 * MIB]
MUCH = 24 * MIB

pytestmark = [pytest.mark.lab, pytest.mark.long]


def check(result: Result, *, at_once: bool = True) -> None:
    """It was the point at once and is in the end; nothing is left; the next cycle is tracked."""
    merged = result.event("merged")
    assert merged["found"] == merged["wanted"]
    assert not at_once or merged["at_once"] == merged["wanted"]
    assert merged["volumes"] == ["data"]
    assert (merged["paused"], merged["code"]) == (None, 0)
    assert merged["run"]["changed_bytes"] == MUCH  # what was merged, and nothing else
    points = result.event("compared")["points"]
    assert [point["method"] for point in points] == ["first", *["tracked"] * 3]
    assert points[-1]["compared"] == "equal"
    assert result.event("stopped")["status"] == 0


def test_merged(make_machine: MakeMachine) -> None:
    result = make_machine(SIZES).run(
        GUEST_DIR / "merge.py", "merge", "once", blank=True, limit_s=500
    )
    check(result)
    assert result.event("merged")["merge_code"] == 0


@pytest.mark.parametrize("how", ["merge", "plain"])
def test_the_machine_is_killed_in_the_middle(make_machine: MakeMachine, how: str) -> None:
    """The same command finishes it; merged, it reads as the point before anything of ours runs."""

    def once() -> Result:
        machine = make_machine(SIZES)
        guest = machine.boot(GUEST_DIR / "merge.py", how, "kill", limit_s=300)
        merging = guest.wait_for("merging", limit_s=280)
        guest.kill()
        assert how == "plain" or 0 < merging["left"] < MUCH + MIB
        facts = (how, "after", merging["point"], merging["digest"])
        return machine.run(GUEST_DIR / "merge.py", *facts, limit_s=400)

    result = repeat_aborted(once)
    merged = result.event("merged")
    check(result, at_once=how == "merge")
    assert merged["wanted"] == merged["digest"]
    assert merged["causes"] == ["E-HALF-RESTORED"]
    assert merged["merge_code"] in (0, 13)
