"""Bad set-ups, full COW space, files in the way, a boot without the COW space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR, Result, repeat_aborted

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20

pytestmark = pytest.mark.lab


def test_trouble_is_told_and_leaves_the_volume_as_it_was(make_machine: MakeMachine) -> None:
    """One guest; each refusal names cause, consequence and next step."""
    machine = make_machine([1024 * MIB, 1024 * MIB, 1024 * MIB])
    result = machine.run(GUEST_DIR / "lvm_trouble.py", blank=True)
    expected = {
        "no-space-pv": "SpaceError", "own-file": "RefusedError", "own-device": "RefusedError",
        "no-group": "NotFoundError", "foreign-file": "RefusedError", "no-volume": "VolumeError",
        "no-vg": "VolumeError", "reserve": "CowReserveError", "own-loop": "RefusedError",
        "foreign-snapshot": "RefusedError", "of-a-snapshot": "VolumeError", "frozen": "BusyError",
        "cow-held": "BusyError",
    }  # fmt: skip
    for name, error in expected.items():
        seen = result.event(name)
        assert seen["error"] == error, seen
        assert not seen["suspended"], seen
        assert seen["whole"] or name == "no-group", seen
    assert not result.event("own-file")["made"]
    assert result.event("foreign-file")["content"] == "precious"
    assert result.event("own-loop")["findings"] == ["HAZARD"]
    assert result.event("thawed")["findings"] == []
    check_held_cow_device(result)
    check_overflow(result)


def check_held_cow_device(result: Result) -> None:
    """Somebody holding -cow open is named; what another's removal left is cleaned later."""
    held = result.event("cow-held")
    assert "python" in held["message"]  # it names who holds it
    assert held["states"] == ["good"]
    half = result.event("half-removed")
    assert half["states"] == ["half"]
    assert any(name.endswith("-cow") for name in half["devices"])
    free = result.event("cow-free")
    assert free["states"] == []
    assert free["devices"] == ["vg-data"]
    assert free["done"]


def check_overflow(result: Result) -> None:
    """A full COW space ends the tracking, never the volume; the next snapshot works."""
    overflow = result.event("overflow")
    assert overflow["states"] == ["invalid"]
    assert overflow["use"] is None
    assert overflow["error"] == "TrackingLostError"
    assert overflow["writes"]
    assert overflow["findings"] == ["INVALID"]
    assert overflow["repaired"] == []  # its removal is the rotation's decision
    assert result.event("taken")["states"] == ["good"]


def check_boot_without_cow_space(make_machine: MakeMachine) -> tuple[Result, dict[str, object]]:
    machine = make_machine([1024 * MIB, 2048 * MIB])
    machine.blank()
    guest = machine.boot(GUEST_DIR / "lvm_reboot.py", "before")
    cut = guest.wait_for("cut", limit_s=120)
    guest.kill()
    return machine.run(GUEST_DIR / "lvm_reboot.py", "after"), cut


def test_a_boot_without_the_cow_space_is_made_good_and_tracking_goes_on(
    make_machine: MakeMachine,
) -> None:
    result, cut = repeat_aborted(lambda: check_boot_without_cow_space(make_machine))
    repaired = result.event("repaired")
    assert "COW-FILE" in repaired["found"]
    assert "VolumeError" in repaired["error"]
    assert "NOT-ATTACHED" in repaired["found_mounted"]
    assert repaired["done"]
    assert repaired["again"] == []
    assert repaired["states"] == ["good"]
    assert repaired["digest"] == cut["digest"]
    assert repaired["entries"] >= cut["entries"]
    assert result.event("tracked")["missing"] == []
    assert result.event("tracked")["changed"] > 0
