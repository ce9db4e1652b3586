"""The units on a real systemd, with udevd, LVM and a volume that /etc/fstab mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR, Event, Result, repeat_aborted

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

GIB = 1 << 30
SIZES = [GIB, 2 * GIB, GIB]
STOP_S_MAX = 60.0
PROGRAM = GUEST_DIR / "units.py"

pytestmark = pytest.mark.lab


def check_start(events: list[Event]) -> None:
    """Nothing before it is configured; then the first request starts it, and cycles work."""
    by_name = {event["event"]: event for event in events}
    assert set(by_name["untouched"]["states"].values()) == {"inactive"}
    assert by_name["untouched"]["dm"] == "No devices found"
    activated = by_name["activated"]
    assert (activated["before"], activated["code"]) == ("inactive", 0)
    assert activated["mode"] == "0o140660"
    assert (by_name["member"]["looked"], by_name["member"]["asked"]) == (0, 77)
    check_cycles(events)


def check_cycles(events: list[Event]) -> None:
    """Each point came of tracking, but for the very first."""
    cycles = [event for event in events if event["event"] == "cycle"]
    assert cycles
    for number, cycle in enumerate(cycles):
        is_first = cycle["name"] == "first"
        assert is_first == (number == 0 and len(cycles) > 1), cycle
        assert (cycle["code"], cycle["result"]) == (0, "success"), cycle
        assert cycle["method"] == ("first" if is_first else "tracked"), cycle


def days(make_machine: MakeMachine) -> tuple[list[Event], float, Result]:
    machine = make_machine(SIZES, systemd=True)
    steps = ("untouched", "activated", "good_days", "killed", "powered_off")
    guest = machine.boot(PROGRAM, *steps, limit_s=600)
    guest.wait_for("off", limit_s=600)
    events = guest.events()
    off_s = guest.wait_for_power_off()
    return events, off_s, machine.run(PROGRAM, "again", limit_s=400)


def test_installed_killed_and_booted_again_it_goes_on_tracking(
    make_machine: MakeMachine,
) -> None:
    events, off_s, again = repeat_aborted(lambda: days(make_machine))
    check_start(events)
    by_name = {event["event"]: event for event in events}
    killed = by_name["killed"]
    assert (killed["NRestarts"], killed["ActiveState"]) == ("1", "active")
    assert off_s < STOP_S_MAX
    up = again.event("again")
    assert up["mounted"]  # by fstab: its group was whole only once the file was attached
    assert (up["cow"], up["socket"], up["failed"]) == ("active", "active", [])
    check_cycles(again.events)


@pytest.mark.long
def test_reloaded_hanging_drilling_and_stopped_while_a_cycle_runs(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine(SIZES, systemd=True)
    steps = ("untouched", "activated", "good_days", "reloaded", "hangs", "drilled", "stopped")
    result = machine.run(PROGRAM, *steps, limit_s=900, blank=True)
    check_start(result.events)
    reloaded = result.event("reloaded")
    assert (reloaded["same"], reloaded["method"]) == (True, "tracked")
    hung = [event for event in result.events if event["event"] == "hung"]
    assert [event["name"] for event in hung] == ["the scheduler", "the loop"]
    for event in hung:
        assert not event["same"]
        assert event["stacks"]  # of every thread, in the journal
        assert event["ActiveState"] == "active"
    assert result.console.count("Watchdog timeout") == 2
    drilled = result.event("drilled")
    assert (drilled["code"], drilled["result"]) == (0, "success")
    assert {drilled["steps"][name] for name in ("fsck", "check")} == {"success"}
    stopped = result.event("stopped")
    assert (stopped["Result"], stopped["ExecMainStatus"]) == ("success", "0")
    assert (stopped["ActiveState"], stopped["suspended"]) == ("inactive", [])
    assert stopped["seconds"] < STOP_S_MAX
    assert stopped["socket"]  # systemd still listens
