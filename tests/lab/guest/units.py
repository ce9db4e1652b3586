"""Guest with systemd: the daemon's units from installing to killing, hanging and stopping.

    installed, not configured → started through its socket → cycles → reload → hooks → kill -9 →
    hangs → a drill → stopped while a cycle runs → power off

Arguments: the steps to take, by the names of their functions; ``again`` is for the boot after. Each
is told as it begins and as it is done, with the seconds it took.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.lab.guest import kit, units_hooks, units_kit
from tests.lab.guest.units_kit import SERVICE, VOLUME, ctl, cycle, shown

WATCHDOG_S = 8
HANGING = f"""\
[Service]
WatchdogSec={WATCHDOG_S}
ExecStart=
ExecStart={units_kit.PROJECT}/.venv/bin/python {units_kit.PROJECT}/tests/lab/guest/hanging.py
Environment=PYTHONPATH={units_kit.PROJECT}
"""


def untouched() -> None:
    """Enabled without a configuration: starting is no error, and starts nothing."""
    units_kit.install()
    kit.run("systemctl", "enable", "blocksnapd.service", "blocksnapd.socket")
    kit.run("systemctl", "start", "blocksnapd.service", "blocksnapd.socket")
    states = {u: shown(u, "ActiveState")["ActiveState"] for u in (SERVICE, "blocksnapd.socket")}
    exposures = {unit: units_kit.exposure(unit) for unit in (SERVICE, "blocksnapd-receive.service")}
    kit.tell("untouched", states=states, exposures=exposures, dm=kit.run("dmsetup", "ls").strip())


def activated() -> None:
    """The first request starts the daemon: the socket is there before it."""
    units_kit.make_disks()
    units_kit.configure()
    kit.run("systemctl", "start", "blocksnapd.socket")
    before = shown(SERVICE, "ActiveState")["ActiveState"]
    code, _ = ctl("status")
    facts = shown(SERVICE, "ActiveState", "StatusText", "Type")
    entry = Path("/run/blocksnap/control.sock").stat()
    kit.tell(
        "activated", before=before, code=code, mode=oct(entry.st_mode), gid=entry.st_gid, **facts
    )


def good_days() -> None:
    """A first full copy and what follows it; a member of the group may look."""
    cycle("first")
    cycle("second")
    as_member = ["setpriv", "--reuid=nobody", "--regid=blocksnap", "--clear-groups", "blocksnapctl"]
    looked = subprocess.run([*as_member, "status"], capture_output=True, check=False).returncode
    asked = subprocess.run([*as_member, "run", VOLUME], capture_output=True, check=False).returncode
    kit.tell("member", looked=looked, asked=asked)


def reloaded() -> None:
    """Another rhythm and hooks are taken up while a cycle ships; that cycle is seen through."""
    units_hooks.install()
    pid, run_id = units_kit.main_pid(), units_kit.start_long_run()
    text = units_kit.CONFIG_TEXT.replace('every = "1h"', 'every = "2h"')
    units_kit.CONFIG.write_text(text + units_hooks.CONFIG_TEXT)
    asked = datetime.now(UTC).isoformat()
    kit.run("systemctl", "reload", SERVICE)
    ended = units_kit.see_through("during the reload", run_id)["ended"]
    kit.tell("reloaded", same=units_kit.main_pid() == pid, asked=asked, ended=ended)


def hooked() -> None:
    """Hooks as transient units: well, and hanging."""
    units_hooks.run_well()
    units_hooks.hang()


def killed() -> None:
    """SIGKILL while a cycle ships; systemd starts it again, and it goes on."""
    units_kit.start_long_run()
    os.kill(units_kit.main_pid(), signal.SIGKILL)
    kit.tell("killed", **units_kit.wait_for_restart(1))
    cycle("after the kill")


def hung(name: str, number: signal.Signals, restarts: int) -> None:
    """Make one part of the daemon hang: systemd ends it and starts it again."""
    pid = units_kit.main_pid()
    begun = time.monotonic()
    os.kill(pid, number)
    facts = units_kit.wait_for_restart(restarts)
    said = units_kit.journal()
    kit.tell(
        "hung", name=name, seconds=time.monotonic() - begun, same=units_kit.main_pid() == pid,
        stacks="most recent call first" in said, **facts,
    )  # fmt: skip
    cycle(f"after {name} hung")


def drilled() -> None:
    """A drill by the daemon, in its sandbox."""
    code, documents = ctl("drill", VOLUME)
    drill = documents[-1].get("drill", documents[-1]) if documents else {}
    steps = {step["name"]: step["result"] for step in drill.get("steps", [])}
    kit.tell("drilled", code=code, result=drill.get("result"), steps=steps)


def stopped() -> None:
    """Stop it while a cycle runs: clean and in time; the next start goes on with that cycle."""
    units_kit.start_long_run()
    begun = time.monotonic()
    kit.run("systemctl", "stop", "blocksnapd.service")
    seconds = time.monotonic() - begun
    facts = shown(SERVICE, "Result", "ActiveState", "ExecMainStatus")
    socket = Path("/run/blocksnap/control.sock").exists()
    kit.run("systemctl", "start", "blocksnapd.service")
    kit.tell("stopped", seconds=seconds, socket=socket, suspended=suspended(), **facts)
    cycle("after the stop")


def suspended() -> list[str]:
    """Return the devices that are suspended."""
    lines = kit.run("dmsetup", "info", "-c", "--noheadings", "-o", "name,suspended").splitlines()
    return [line for line in lines if "Suspended" in line]


def hangs() -> None:
    """Both ways to hang, with a short watchdog."""
    drop_in = Path(f"/etc/systemd/system/{SERVICE}.d/hanging.conf")
    drop_in.parent.mkdir()
    drop_in.write_text(HANGING)
    kit.run("systemctl", "daemon-reload")
    kit.run("systemctl", "restart", SERVICE)
    hung("the scheduler", signal.SIGUSR1, 1)
    hung("the loop", signal.SIGUSR2, 2)
    drop_in.unlink()
    kit.run("systemctl", "daemon-reload")
    kit.run("systemctl", "restart", SERVICE)


def powered_off() -> None:
    """Shut the system down with something written that no point holds yet."""
    units_kit.write("before the boot", kit.MIB)
    kit.tell("off")  # before: it may be quick
    kit.run("systemctl", "--no-block", "poweroff")
    while True:
        signal.pause()


def again() -> None:
    """What the next boot brought up by itself, with tracking."""
    units_kit.until(lambda: shown(SERVICE, "SubState")["SubState"] == "running", "the daemon")
    facts = shown("blocksnap-cow@spare-disk.service", "ActiveState", "Result")
    kit.tell(
        "again", mounted=os.path.ismount(units_kit.DATA), cow=facts["ActiveState"],
        failed=kit.run("systemctl", "--failed", "--plain", "--no-legend").split(),
        socket=shown("blocksnapd.socket", "ActiveState")["ActiveState"],
    )  # fmt: skip
    cycle("after the boot")


if __name__ == "__main__":
    known = (
        untouched, activated, good_days, reloaded, hooked, killed, hangs, drilled, stopped,
        powered_off, again,
    )  # fmt: skip
    steps = {step.__name__: step for step in known}
    try:
        for name in sys.argv[1:]:
            begun = time.monotonic()
            kit.tell("begun", step=name)
            steps[name]()
            kit.tell("done", step=name, seconds=round(time.monotonic() - begun, 1))
        units_kit.tell_points()
    except BaseException:
        sys.stderr.write(units_kit.journal())
        raise
