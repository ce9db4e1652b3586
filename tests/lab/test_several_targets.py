"""Two targets on a real kernel: one hangs, and neither delays the other nor costs a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZES = [1024 * MIB, 512 * MIB, 4096 * MIB, 512 * MIB, 2048 * MIB]

pytestmark = pytest.mark.lab


def test_never_a_third_snapshot_while_a_target_hangs(make_machine: MakeMachine) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "several_targets.py", blank=True, limit_s=400)
    near = [event for event in result.events if event["event"] == "near"]
    assert [e["name"] for e in near] == [
        *(f"hangs {n}" for n in range(4)), "overflow", *(f"after {n}" for n in range(2)),
    ]  # fmt: skip
    assert all(e["is_hanging"] for e in near)  # nothing of this waited for it
    assert all(e["alive"] <= 2 for e in near)
    assert [e["code"] for e in near if e["name"] != "overflow"] == [0] * 6, near
    overflow = near[4]
    assert set(overflow["states"]) == {"Invalid"}
    assert overflow["reason"] in {"overflow", "tracking-gone"}
    thawed = result.event("thawed")
    assert thawed["most"] == 2
    assert thawed["looks"] > 10
    assert (thawed["code"], thawed["alive"]) == (0, 1)
    assert result.event("ended")["status"] == 0
    compared = result.event("compared")
    for target in ("near", "far"):
        assert compared[target]
        assert all(point["is_equal"] for point in compared[target]), compared[target]
    assert len(compared["near"]) >= 8
