"""A volume restored in place on real LVM and file systems: there, back, refused, killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine
    from tests.lab.machine import Event, Result

MIB = 1 << 20
SIZES = [1024 * MIB, 512 * MIB, 4096 * MIB, 8192 * MIB]

pytestmark = pytest.mark.lab


def check_there_and_back(result: Result, difference: int) -> None:
    """Refused while mounted; then what was wanted, tracked, and undone by the same command."""
    mounted = result.event("mounted")
    assert (mounted["code"], mounted["paused"]) == (12, None)
    assert "mounted at /run/lab/m" in str(mounted["said"])
    restored, after, undone = (result.event(name) for name in ("restored", "next", "undone"))
    assert (restored["code"], restored["run"]["result"], restored["paused"]) == (0, "success", None)
    assert restored["found"] == restored["wanted"]
    size = restored["run"]["changed_bytes"]
    assert difference <= size < difference + 4 * MIB
    # The snapshot from before tracked it all: no full copy, no compare, and nothing else.
    assert (after["code"], after["run"]["result"]) == (0, "success")
    assert after["run"]["changed_bytes"] == size
    assert (undone["code"], undone["found"]) == (0, undone["wanted"])
    points = {point["id"]: point for point in result.event("compared")["points"]}
    assert points[after["run"]["point"]]["method"] == "tracked"
    assert points[after["run"]["point"]]["compared"] == "equal"
    assert points[result.event("last")["run"]["point"]]["compared"] == "equal"
    methods = [point["method"] for point in points.values()]
    assert methods == ["first", *["tracked"] * (len(methods) - 1)]
    assert {p["compared"] for p in points.values()} <= {"equal", "no reference"}
    assert result.event("ended")["status"] == 0


def check_kill(kill: Event) -> bool:
    """The same command finished it; return whether it had left a mixture."""
    assert kill["code"] in (0, 13), kill
    assert (kill["found"], kill["paused"]) == (kill["wanted"], None), kill
    assert kill["unmerged"] == []
    assert "which was never merged" in str(kill["run"]["warnings"]), kill
    held: dict[str, Any] = kill["held"]
    if not held:
        return False
    assert held["state"] == "failing"
    assert "--in-place" in held["causes"][0]["hint"]
    assert (held["run"], held["resume"]) == (12, 12), kill
    return held["left"] not in (kill["before"], kill["wanted"])


def run(make_machine: MakeMachine, kind: str, mib: int, difference: int, *kills: str) -> Result:
    return make_machine(SIZES).run(
        GUEST_DIR / "in_place.py", kind, str(mib), str(difference), *kills, blank=True, limit_s=900
    )


def test_there_and_back_and_a_worker_that_is_killed(make_machine: MakeMachine) -> None:
    result = run(make_machine, "ext4", 96, 24, "worker:0.03")
    check_there_and_back(result, 24 * MIB)
    check_kill(result.event("killed"))


@pytest.mark.long
def test_killed_wherever(make_machine: MakeMachine) -> None:
    whom = ("worker", "client", "daemon")
    kills = [f"{who}:{after}" for after in (0, 0.03, 0.06, 0.1, 0.2, 0.4) for who in whom]
    result = run(make_machine, "xfs", 300, 80, *kills)
    check_there_and_back(result, 80 * MIB)
    found = [event for event in result.events if event["event"] == "killed"]
    assert len(found) == len(kills)
    mixtures = [kill for kill in found if check_kill(kill)]
    assert len(mixtures) >= 3, "most kills came too early or too late"
