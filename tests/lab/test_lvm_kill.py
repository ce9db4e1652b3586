"""lvcreate and lvremove killed while they hold the origin suspended: it is writable again."""

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


def check_kills(make_machine: MakeMachine, program: str, base: str, which: str) -> int:
    """Run the guest, check every kill; return how many there were."""
    result = make_machine(SIZES).run(
        GUEST_DIR / "lvm_kill.py", program, base, which, blank=True, limit_s=400
    )
    window = result.event("window")
    kills = [event for event in result.events if event["event"] == "died"]
    for kill in kills:
        expected = [["p0000000000000001", "good"]] if base == "base" else []
        assert kill["error"] in ("LvmError", "HostError"), kill
        assert kill["writable"], kill
        assert kill["stall_s"] < LIMIT_S, kill
        assert kill["repaired_again"] == [], kill
        assert kill["left"] == expected, kill
        assert kill["devices"] == window["devices"], kill
    if base == "base":
        tracked = result.event("tracked")
        assert tracked["changed"] > 0
        assert tracked["missing"] == []
    assert result.event("taken")["suspend_s"] > 0
    assert result.event("taken")["findings"] == []
    return len(kills)


@pytest.mark.parametrize("base", ["alone", "base"])
@pytest.mark.parametrize("program", ["lvcreate", "lvremove"])
def test_killed_before_each_ioctl_that_changes_a_device(
    make_machine: MakeMachine, program: str, base: str
) -> None:
    assert check_kills(make_machine, program, base, "changing") >= 4


@pytest.mark.long
@pytest.mark.parametrize("base", ["alone", "base"])
@pytest.mark.parametrize("program", ["lvcreate", "lvremove"])
def test_killed_before_each_ioctl(make_machine: MakeMachine, program: str, base: str) -> None:
    assert check_kills(make_machine, program, base, "each") >= 17
