"""Runs lvm2: reports directly, everything that suspends an origin under the guard. Edge.

Rules of this file: stdin is /dev/null, the deadline is ours, the exit status decides and the
words only explain. A guard that dies without a report leaves its command alone with the
origin: then the watch and the repair are done here, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import blocksnapd
from blocksnapd.cycle import lvm_text
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.dm_stack import resume_forward
from blocksnapd.cycle.guard import Watch
from blocksnapd.cycle.lvm_errors import explain, not_installed
from blocksnapd.errors import BlocksnapError, HostError, LvmError
from blocksnapd.runtime.process import Finished, FlightRecorder, base_environment, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.cycle.lvm_text import (
        GroupReport,
        LogicalVolume,
        PhysicalVolume,
        VolumeGroup,
    )

UDEV_CONTROL = "/run/udev/control"
REPORT_S_MAX = 60.0
COMMAND_S_MAX = 120.0
SUSPEND_S_MAX = 10.0
_GUARD_EXTRA_S = 60.0
GUARD_STAYS_S = 10.0
_LINE_SIZE_MAX = 1024 * 1024
_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Guarded:
    """A command that the guard saw through; see ``guard.Report`` for the numbers."""

    duration_s: float
    suspended_s: float
    suspended_at: float


class Lvm:
    """lvm2 on this host. One caller per volume group at a time; lvm2's own locks do the rest."""

    def __init__(
        self, *, recorder: FlightRecorder | None = None, command_s_max: float = COMMAND_S_MAX,
        suspend_s_max: float = SUSPEND_S_MAX,
    ) -> None:  # fmt: skip
        self.recorder = recorder or FlightRecorder()
        self.command_s_max = command_s_max
        self.suspend_s_max = suspend_s_max
        self._locks: dict[str, asyncio.Lock] = {}
        self._idle: asyncio.subprocess.Process | None = None
        self._ending: set[asyncio.Task[int]] = set()

    def lock(self, vg: str) -> asyncio.Lock:
        """Return the lock that lets one of us at a time change a volume group."""
        return self._locks.setdefault(vg, asyncio.Lock())

    @property
    def udev(self) -> bool:
        """Whether udevd runs, and so makes the device nodes."""
        return os.path.exists(UDEV_CONTROL)

    def environment(self) -> dict[str, str]:
        """Return what lvm2 needs in its environment besides ours."""
        extra = {"LVM_SUPPRESS_FD_WARNINGS": "1"}
        if not self.udev:
            extra["DM_DISABLE_UDEV"] = "1"
        return extra

    async def group(self, vg: str) -> GroupReport:
        """Report the volumes of a group, and its physical volumes.

        Raises:
            VolumeError: there is no such group. LvmError and others: see lvm_errors.py.
        """
        argv = lvm_text.group_argv(vg, udev=self.udev)
        return lvm_text.parse_group((await self.command(argv)).stdout)

    async def volumes(self, vg: str) -> list[LogicalVolume]:
        """Report the volumes of a group; raises as ``group`` does."""
        return (await self.group(vg)).volumes

    async def groups(self) -> list[VolumeGroup]:
        """Report every volume group."""
        return lvm_text.parse_vgs((await self.command(lvm_text.vgs_argv(udev=self.udev))).stdout)

    async def physical_volumes(self) -> list[PhysicalVolume]:
        """Report every physical volume of this host."""
        return lvm_text.parse_pvs((await self.command(lvm_text.pvs_argv(udev=self.udev))).stdout)

    async def command(self, argv: Sequence[str], *, timeout_s: float = REPORT_S_MAX) -> Finished:
        """Run a command that suspends nothing.

        Raises:
            LvmError, VolumeError, SpaceError, BusyError, NotAllowedError, DeviceMapperError.
        """
        try:
            finished = await run(
                argv, timeout_s=timeout_s, environment=self.environment(), recorder=self.recorder
            )
        except FileNotFoundError as error:
            raise not_installed(argv[0]) from error
        if finished.status != 0:
            raise explain(argv=list(argv), status=finished.status, said=finished.said)
        return finished

    async def guarded(
        self, argv: Sequence[str], *, origin: str, names: tuple[str, ...] = (), stay: bool = False
    ) -> Guarded:
        """Run a command that suspends ``origin`` (device-mapper name) under the guard.

        Once begun it is seen through: a cancelled caller waits for its end. With ``stay`` the
        guard is there for the next command for ``GUARD_STAYS_S``, so that no other one is started.

        Raises:
            HostError: the guard had to step in. LvmError and others: see lvm_errors.py.
        """
        task = asyncio.create_task(self._guarded(list(argv), origin, names, stay=stay))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # looked at, so that nobody reports it as lost
            raise

    async def resume(self, origin: str, names: tuple[str, ...] = ()) -> list[str]:
        """Resume whatever a dead command left suspended around ``origin``; say what it was.

        Raises:
            DeviceMapperError: it is still suspended, or there is no device-mapper.
        """
        return await asyncio.to_thread(_resume, origin, names)

    async def _guarded(
        self, argv: list[str], origin: str, names: tuple[str, ...], *, stay: bool
    ) -> Guarded:
        order = {
            "argv": argv, "env": base_environment(self.environment()), "origin": origin,
            "names": list(names), "suspend_s_max": self.suspend_s_max,
            "command_s_max": self.command_s_max,
        }  # fmt: skip
        process, self._idle = self._idle, None
        if process is None or process.returncode is not None:
            process = await _start_guard()
        lines, complaint = await self._order(process, order)
        report = lines[-1] if lines and "status" in lines[-1] else None
        self._release(process, stay=stay and report is not None)
        if report is None:
            pid = next((int(line["pid"]) for line in lines if "pid" in line), 0)
            raise await self._without_guard(argv, pid, origin, names, lines, complaint)
        self.recorder.add(
            Finished(
                tuple(argv),
                report["status"],
                report["stdout"],
                report["stderr"],
                report["duration_s"],
            )
        )
        _judge(argv, report)
        return Guarded(report["duration_s"], report["suspended_s"], report["suspended_at"])

    async def _order(
        self, process: asyncio.subprocess.Process, order: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], str]:
        """Return the guard's lines up to its report, or until it is clear that none comes."""
        assert process.stdout is not None  # asked for as pipes
        assert process.stderr is not None
        assert process.stdin is not None
        limit_s = self.command_s_max + self.suspend_s_max + _GUARD_EXTRA_S
        lines: list[dict[str, Any]] = []
        complaint = b""
        try:
            async with asyncio.timeout(limit_s):
                process.stdin.write(json.dumps(order).encode() + b"\n")
                while line := await process.stdout.readline():
                    lines.append(json.loads(line))
                    if "status" in lines[-1]:
                        return lines, ""
                complaint = await process.stderr.read(_LINE_SIZE_MAX)
                await process.wait()
        except (TimeoutError, ValueError) as error:
            complaint += f" {type(error).__name__} {error}".encode()
        return lines, complaint.decode(errors="replace").strip()

    def _release(self, process: asyncio.subprocess.Process, *, stay: bool) -> None:
        """Let the guard end, at once or when nobody wanted it for a while."""
        if stay and self._idle is None:
            self._idle = process
            asyncio.get_running_loop().call_later(GUARD_STAYS_S, self._dismiss, process)
        else:
            self._end(process)

    def _dismiss(self, process: asyncio.subprocess.Process) -> None:
        if process is self._idle:
            self._idle = None
            self._end(process)

    def _end(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # asked for as pipes
        process.stdin.close()
        task = asyncio.create_task(process.wait())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _without_guard(
        self, argv: list[str], pid: int, origin: str, names: tuple[str, ...],
        lines: list[dict[str, Any]], complaint: str,
    ) -> BlocksnapError:  # fmt: skip
        """Do what a dead guard cannot do any more; return the error to raise."""
        failed = next((str(line["failed"]) for line in lines if "failed" in line), "")
        resumed = await asyncio.to_thread(self._see_through, pid, origin, names)
        cause = failed or complaint.rpartition("\n")[2] or "it was killed"
        if failed and argv[0] in failed and "No such file" in failed:
            return not_installed(argv[0])
        return HostError(
            f"The guard of {argv[0]} ended without a report: {cause}.",
            effect=f"{_resumed_text(resumed)} What was left half-done is repaired next.",
            hint="Look for the out-of-memory killer in the kernel log.",
        )

    def _see_through(self, pid: int, origin: str, names: tuple[str, ...]) -> list[str]:
        """Watch the command in the guard's place; then resume. May block, in a thread."""
        with Control() as control:
            watch = Watch(control, origin)
            end = time.monotonic() + self.command_s_max
            while _is_alive(pid) and time.monotonic() < end:
                if watch.look() > self.suspend_s_max:
                    with contextlib.suppress(ProcessLookupError):  # it ended just now
                        os.kill(pid, signal.SIGKILL)
                    break
                time.sleep(_LOOK_S)
            return resume_forward(control, origin, names)


async def _start_guard() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-P", "-m", "blocksnapd.cycle.guard",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=_guard_environment(), start_new_session=True,
        limit=_LINE_SIZE_MAX,
    )  # fmt: skip


def _judge(argv: list[str], report: dict[str, Any]) -> None:
    """Raise what a guard's report means, if it means trouble."""
    if report["trouble"]:
        raise HostError(report["trouble"])
    if report["killed"]:
        raise HostError(
            f"{argv[0]} was stopped by the guard: {report['killed']}.",
            effect=f"{_resumed_text(report['resumed'])} What was left is repaired next.",
            hint="A disk under the volume group hangs, or another lvm2 command holds its lock.",
        )
    if report["resumed"]:
        raise LvmError(
            f"{argv[0]} died with status {report['status']} while the origin was suspended.",
            effect=f"{_resumed_text(report['resumed'])} What was left is repaired next.",
            hint="Look for the out-of-memory killer in the kernel log.",
        )
    if report["status"] != 0:
        said = "; ".join((report["stderr"].strip() or report["stdout"].strip()).splitlines())
        raise explain(argv, report["status"], said)


def _resumed_text(resumed: list[str]) -> str:
    return f"The volume is writable again (resumed {', '.join(resumed)})." if resumed else ""


def _guard_environment() -> dict[str, str]:
    """Return an environment in which -S finds our package: site-packages is not searched."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(blocksnapd.__file__)))
    return {**os.environ, "PYTHONPATH": root, "LC_ALL": "C"}


def _resume(origin: str, names: tuple[str, ...]) -> list[str]:
    with Control() as control:
        return resume_forward(control, origin, names)


def _is_alive(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
