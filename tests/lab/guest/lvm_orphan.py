"""Guest: those who watch die, too: the guard, the daemon, both; or the command hangs.

A "daemon" here is a process that takes one snapshot, ``python lvm_orphan.py daemon N``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from blocksnapd.cycle import doctor
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.errors import BlocksnapError
from tests.lab.guest import kit, lvm_kit
from tests.lab.guest.lvm_kit import StallMeter, point

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.cycle.lvm_source import LvmSource

LIMIT_S = 1.5
# The command's parent is the guard, the guard's parent is the daemon.
KILL_GUARD = "kill -9 $PPID"
KILL_DAEMON = "kill -9 $(ps -o ppid= -p $PPID)"
KILL_BOTH = "d=$(ps -o ppid= -p $PPID); kill -9 $PPID $d"
VOLUME = VolumeName.parse(lvm_kit.ORIGIN)


def run_daemon(number: int) -> int:
    """Run a daemon that takes point ``number``, until it ends; return its status."""
    argv = [sys.executable, __file__, "daemon", str(number)]
    return subprocess.run(argv, check=False, timeout=60).returncode


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the guest waited 30 s")
        time.sleep(0.01)


def has_ended() -> bool:
    """Whether lvcreate is gone, also from under strace."""
    return kit.run("pgrep", "-x", "lvcreate|strace", check=False) == ""


async def both_die(lvm: Lvm, source: LvmSource, meter: StallMeter, numbers: list[int]) -> None:
    """Kill daemon, guard and lvcreate inside the window: only the next start can help."""
    for number in numbers:
        lvm_kit.let_die("lvcreate", number, first=KILL_BOTH)
        status = await asyncio.to_thread(run_daemon, 100 + number)
        await asyncio.to_thread(wait_until, has_ended)
        lvm_kit.let_live("lvcreate")
        suspended = lvm_kit.is_suspended()
        seen = [s.state for s in (await source.observe()).snapshots]
        found = [f.code for f in await doctor.examine(lvm, VOLUME)]
        done = await doctor.repair(lvm, VOLUME)
        writes = meter.writes(within_s=LIMIT_S)
        again = await doctor.repair(lvm, VOLUME)
        kit.tell(
            "both",
            number=number,
            status=status,
            suspended=suspended,
            seen=seen,
            found=found,
            done=done,
            writes=writes,
            again=again,
            after=[f.code for f in await doctor.examine(lvm, VOLUME)],
        )
        await source.remove(point(100 + number))


async def guard_dies(source: LvmSource, meter: StallMeter, numbers: list[int]) -> None:
    """Kill the guard before the command starts; the daemon has to notice and to repair."""
    for number in numbers:
        lvm_kit.let_die("lvcreate", number, first=KILL_GUARD)
        meter.worst_s()
        error = ""
        try:
            await source.take(point(200 + number))
        except BlocksnapError as failure:
            error = failure.message
        lvm_kit.let_live("lvcreate")
        kit.tell(
            "guard",
            number=number,
            error=error,
            writes=meter.writes(within_s=LIMIT_S),
            stall_s=meter.worst_s(),
            left=[s.state for s in (await source.observe()).snapshots],
        )


async def daemon_dies(source: LvmSource, meter: StallMeter) -> None:
    """Kill only the daemon: the guard sees the command through."""
    lvm_kit.run_first("lvcreate", KILL_DAEMON)
    meter.worst_s()
    status = await asyncio.to_thread(run_daemon, 300)
    await asyncio.to_thread(wait_until, has_ended)
    lvm_kit.let_live("lvcreate")
    kit.tell(
        "daemon",
        status=status,
        writes=meter.writes(within_s=LIMIT_S),
        stall_s=meter.worst_s(),
        left=[s.state for s in (await source.observe()).snapshots],
    )
    await source.remove(point(300))


async def command_hangs(source: LvmSource, meter: StallMeter, number: int) -> None:
    """Let lvcreate sleep in the window: the guard ends it at the limit."""
    lvm_kit.let_hang("lvcreate", number, 8)
    meter.worst_s()
    error = ""
    try:
        await source.take(point(400))
    except BlocksnapError as failure:
        error = failure.message
    lvm_kit.let_live("lvcreate")
    kit.tell(
        "hung",
        error=error,
        writes=meter.writes(within_s=LIMIT_S),
        stall_s=meter.worst_s(),
        left=[s.state for s in (await source.observe()).snapshots],
    )


async def main() -> None:
    lvm_kit.make_origin()
    lvm_kit.add_cow_disk()
    lvm = Lvm(suspend_s_max=LIMIT_S)
    source = lvm_kit.make_source(lvm)
    lvm_kit.count_ioctls("lvcreate")
    await source.take(point(1))
    lvm_kit.let_live("lvcreate")
    await source.remove(point(1))
    window = lvm_kit.window()
    with StallMeter(kit.MOUNT / "meter") as meter:
        await both_die(lvm, source, meter, window.changing)
        await guard_dies(source, meter, [window.changing[0], window.resume])
        await daemon_dies(source, meter)
        await command_hangs(source, meter, window.resume)
        taken = await source.take(point(2))
        kit.tell("taken", suspend_s=taken.suspend_s)


async def daemon(number: int) -> None:
    await lvm_kit.make_source(Lvm(suspend_s_max=LIMIT_S)).take(point(number))


asyncio.run(daemon(int(sys.argv[2])) if sys.argv[1:2] == ["daemon"] else main())
