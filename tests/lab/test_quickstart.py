"""Every command that README.md gives for one disk and for another host, typed on a real LVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20

pytestmark = pytest.mark.lab


def test_the_commands_of_the_quickstart(make_machine: MakeMachine) -> None:
    machine = make_machine([256 * MIB, 4096 * MIB, 1024 * MIB, 64 * MIB])
    told = machine.run(GUEST_DIR / "quickstart.py", blank=True)
    methods = told.event("protected")["methods"]
    assert methods == ["first", "tracked", "tracked", "first"]  # the last one is the file's
    restored = told.event("restored")
    assert (restored["image"], restored["device"]) == ("first", "third")
    in_place = told.event("in place")
    assert (in_place["version"], in_place["copied"]) == ("second", "what was in fstab\n")
    for part in ("/dev/mapper/blocksnap-view-vg0-home-", "nbd+unix://"):
        assert part in in_place["said"]
    elsewhere = told.event("elsewhere")
    assert elsewhere["image"] == "second"
    assert "db01" in elsewhere["receiver"]
