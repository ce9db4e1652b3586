"""The guard, the daemon, or both die around a command that suspends the origin; or it hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB]
LIMIT_S = 1.5

pytestmark = pytest.mark.lab


def test_whoever_dies_the_origin_becomes_writable_and_nothing_half_made_stays(
    make_machine: MakeMachine,
) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "lvm_orphan.py", blank=True)

    both = [event for event in result.events if event["event"] == "both"]
    assert len(both) >= 4
    for death in both:
        assert death["status"] == -9, death
        assert death["suspended"], death  # nobody was left to resume it
        assert "half" in death["seen"], death
        assert "SUSPENDED" in death["found"], death
        assert death["done"], death
        assert death["writes"], death
        assert death["again"] == [], death
        assert death["after"] == [], death

    for death in (event for event in result.events if event["event"] == "guard"):
        assert "ended without a report" in death["error"], death
        assert death["writes"], death
        assert death["stall_s"] < LIMIT_S, death
        assert death["left"] == [], death

    daemon = result.event("daemon")
    assert daemon["status"] == -9
    assert daemon["writes"]
    assert daemon["stall_s"] < LIMIT_S
    assert daemon["left"] == ["good"]

    hung = result.event("hung")
    assert "stopped by the guard" in hung["error"]
    assert hung["writes"]
    assert 0.8 * LIMIT_S < hung["stall_s"] < 2 * LIMIT_S  # a write may begin in the window
    assert hung["left"] == []
    assert result.event("taken")["suspend_s"] > 0
