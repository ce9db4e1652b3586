"""Guest with systemd: the package installed, protecting, upgraded, and refusing to go.

Arguments: the two versions' packages. The programs are the package's, not those of the project.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.guest import kit, units_kit
from tests.lab.guest.units_kit import SERVICE, ctl, cycle, main_pid, shown

UNITS = (SERVICE, "blocksnapd.socket", "blocksnapd-receive.service")
INSTALL_S_MAX = 900.0


def install(package: str) -> float:
    """Install a package; return how many seconds it took."""
    begun = time.monotonic()
    # As apt does it, but for its many fsyncs and for the host's other packages.
    argv = ("dpkg", "--force-unsafe-io", "--no-triggers", "--install", package)
    kit.run(*argv, limit_s=INSTALL_S_MAX)
    return time.monotonic() - begun


def installed(package: str) -> None:
    """Enabled, and nothing is touched; then it is configured and protects."""
    # A container's, and the host may be one: no package starts anything.
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    seconds = install(package)
    units = {unit: shown(unit, "ActiveState", "UnitFileState") for unit in UNITS}
    kit.tell("installed", seconds=seconds, units=units, dm=kit.run("dmsetup", "ls").strip())
    units_kit.make_disks()
    units_kit.configure()
    kit.run("systemctl", "start", *UNITS[:2])
    cycle("first")
    cycle("second")


def upgraded(package: str) -> None:
    """Installed over the running one."""
    before, version = main_pid(), ctl("version")[1][-1]
    seconds = install(package)
    facts = {unit: shown(unit, "ActiveState", "SubState") for unit in UNITS[:2]}
    kit.tell(
        "upgraded", seconds=seconds, restarted=main_pid() not in {0, before}, units=facts,
        versions=[version, ctl("version")[1][-1]],
    )  # fmt: skip
    cycle("after the upgrade")


def refused() -> None:
    """Not removed while a volume group has COW space on a file; the daemon goes on."""
    done = subprocess.run(
        ["dpkg", "--no-triggers", "--remove", "blocksnap"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
    )  # fmt: skip
    kit.tell("refused", code=done.returncode, said=done.stderr)
    cycle("after the refusal")


if __name__ == "__main__":
    del os.environ["PYTHONPATH"]  # it leads to the project's code
    try:
        installed(sys.argv[1])
        upgraded(sys.argv[2])
        refused()
        units_kit.tell_points()
    except BaseException:
        sys.stderr.write(units_kit.journal())
        raise
