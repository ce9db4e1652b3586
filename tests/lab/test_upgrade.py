"""The package under a real systemd: installed, upgraded while it protects, not to be removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import package
from tests.lab.machine import GUEST_DIR
from tests.lab.test_units import SIZES, check_cycles

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

LATER = "99.0"

pytestmark = [pytest.mark.lab, pytest.mark.long]


def test_an_upgrade_restarts_the_daemon_and_it_goes_on_tracking(make_machine: MakeMachine) -> None:
    machine = make_machine(SIZES, systemd=True)
    now, later = machine.out / "now.deb", machine.out / "later.deb"
    package.build(now)
    package.make_later(now, later, LATER)
    program, place = GUEST_DIR / "units_upgrade.py", "/run/lab/out"
    result = machine.run(
        program, f"{place}/now.deb", f"{place}/later.deb", blank=True, limit_s=2400
    )
    installed = result.event("installed")
    assert installed["dm"] == "No devices found"
    for unit in installed["units"].values():
        assert unit == {"ActiveState": "inactive", "UnitFileState": "enabled"}
    upgraded = result.event("upgraded")
    assert upgraded["restarted"]
    before, after = upgraded["versions"]
    assert LATER not in {before["version"], before["daemon"]}
    assert (after["version"], after["daemon"]) == (LATER, LATER)  # also the one that runs
    assert {unit["SubState"] for unit in upgraded["units"].values()} == {"running"}
    refused = result.event("refused")
    assert refused["code"] != 0
    assert "not removed: these volume groups have COW space on a file" in refused["said"]
    check_cycles(result.events)
