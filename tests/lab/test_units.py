"""The units on a real systemd, with udevd, LVM and a volume that /etc/fstab mounts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR, repeat_aborted

if TYPE_CHECKING:
    from tests.conftest import MakeMachine
    from tests.lab.machine import Event

GIB = 1 << 30
SIZES = [GIB, 2 * GIB, GIB]
STOP_S_MAX = 60.0
EXPOSURE_MAX = 3.0
HOOK_TIMEOUT_S = 15
HOOK_EXTRA_S = 50  # a guest may be slow
PROGRAM = GUEST_DIR / "units.py"

pytestmark = pytest.mark.lab


def check_start(events: list[Event]) -> None:
    """Nothing before it is configured; then the first request starts it, and cycles work."""
    by_name = {event["event"]: event for event in events}
    untouched = by_name["untouched"]
    assert set(untouched["states"].values()) == {"inactive"}
    assert untouched["dm"] == "No devices found"
    assert max(untouched["exposures"].values()) <= EXPOSURE_MAX, untouched["exposures"]
    activated = by_name["activated"]
    assert (activated["before"], activated["code"]) == ("inactive", 0)
    assert activated["mode"] == "0o140660"
    assert (by_name["member"]["looked"], by_name["member"]["asked"]) == (0, 77)


def check_cycles(events: list[Event]) -> None:
    """Each point came of tracking, but for the very first; nothing told of its loss."""
    cycles = [event for event in events if event["event"] == "cycle"]
    points = next(event for event in events if event["event"] == "points")
    assert "point" in points["kinds"]
    assert "cow-overflow" not in points["kinds"]
    assert cycles[0]["name"] == "first"
    for cycle in cycles:
        assert (cycle["code"], cycle["result"]) == (0, "success"), cycle
        wanted = "first" if cycle is cycles[0] else "tracked"
        assert points["methods"][cycle["point"]] == wanted, cycle


def check_reload_and_hooks(events: list[Event]) -> None:
    """The run under way went on; hooks are outside of the sandbox, and end in time."""
    by_name = {event["event"]: event for event in events}
    reloaded = by_name["reloaded"]
    assert reloaded["same"]
    assert reloaded["ended"] > reloaded["asked"]  # it was under way
    hooks = by_name["hooks"]
    daemon, system = hooks["daemon"], hooks["system"]
    assert daemon["mounts"] != system["mounts"]
    assert (daemon["NoNewPrivs"], system["NoNewPrivs"]) == ("1", "0")
    assert int(daemon["CapBnd"], 16) < int(system["CapBnd"], 16)
    for hook, user, word in (("before", "root", "as $HOME is"), ("after", "nobody", "also this")):
        found = hooks[hook]
        assert (found["user"], found["word"]) == (user, word)
        assert {name: found[name] for name in system} == system
        assert re.fullmatch(r"0::/system\.slice/blocksnap-hook-\w+\.service", found["cgroup"])
        assert found["BLOCKSNAP_VOLUME"] == "vg/data"
    assert hooks["before"]["usr"] == "writable"  # which the daemon may not
    check_hanging_hook(by_name["hook hung"])


def check_hanging_hook(hung: Event) -> None:
    """Killed with all that it started, and nothing of it is left."""
    assert hung["code"] != 0
    assert hung["error"]["code"] == "E-HOOK"
    assert "did not end within 15.0s and was killed" in hung["error"]["message"]
    assert HOOK_TIMEOUT_S <= hung["seconds"] < HOOK_TIMEOUT_S + HOOK_EXTRA_S
    assert (hung["is_child_left"], hung["units"]) == (False, "")


def days(make_machine: MakeMachine) -> tuple[list[Event], float]:
    """Return what both boots told, and how long the power-off between them took."""
    machine = make_machine(SIZES, systemd=True)
    steps = ("untouched", "activated", "good_days", "reloaded", "hooked", "killed", "powered_off")
    guest = machine.boot(PROGRAM, *steps, limit_s=900)
    guest.wait_for("off", limit_s=900)
    events = guest.events()
    off_s = guest.wait_for_power_off()
    return events + machine.run(PROGRAM, "again", limit_s=400).events, off_s


def test_installed_reloaded_killed_and_booted_again_it_goes_on_tracking(
    make_machine: MakeMachine,
) -> None:
    events, off_s = repeat_aborted(lambda: days(make_machine))
    check_start(events)
    check_cycles(events)
    check_reload_and_hooks(events)
    by_name = {event["event"]: event for event in events}
    killed = by_name["killed"]
    assert (killed["NRestarts"], killed["ActiveState"]) == ("1", "active")
    assert off_s < STOP_S_MAX
    up = by_name["again"]
    assert up["mounted"]  # by fstab: its group was whole only once the file was attached
    assert (up["cow"], up["socket"], up["failed"]) == ("active", "active", [])


@pytest.mark.long
def test_hanging_drilling_and_stopped_while_a_cycle_runs(make_machine: MakeMachine) -> None:
    machine = make_machine(SIZES, systemd=True)
    steps = ("untouched", "activated", "good_days", "hangs", "drilled", "stopped")
    result = machine.run(PROGRAM, *steps, limit_s=900, blank=True)
    check_start(result.events)
    check_cycles(result.events)
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
