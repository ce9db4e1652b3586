"""A daemon's work in a process of its own, turn by turn, killed wherever the test says. Edge.

The process opens the volume as the daemon does and then runs one cycle per turn. It tells its
parent each step as a line of JSON; at the step it shall die it sends itself SIGKILL, in the
thread that the step was reported from: nothing after it happens.

    daemon = Daemon(world, die_at="sealed")
    daemon.turn(due=True)      # → Turn(died=True, steps=["begun", ..., "sealed"])
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.rotation import Asked
from blocksnapd.errors import BlocksnapError
from blocksnapd.pipeline import Cycle
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.service.opening import VolumeOpener
from tests.lab.guest import crash_world, kit, lvm_kit

if TYPE_CHECKING:
    from blocksnapd.ship.shipper import Progress
    from tests.lab.guest.crash_world import World

# All that the pipeline reports, in order; "removed" is not reported in a first full copy.
STEPS = ["begun", "taken", "noted", "listed", "shipped", "sealed", "committed", "ended", "removed"]
# Between steps: at half of the shipment; while lvcreate, lvremove hold the volume suspended.
SHIPPING, TAKING, REMOVING = "shipping", "taking", "removing"
_COMMANDS = {TAKING: "lvcreate", REMOVING: "lvremove"}
_SUSPENDS_AFTER = {TAKING: "begun", REMOVING: "ended"}
# Each ioctl of such a command starts so much later, else the window is too short to aim at.
_SLOW_US = 20_000
TURN_S_MAX = 120.0


@dataclass
class Turn:
    """What one turn did: the points it committed, and how it ended."""

    points: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    error: str = ""
    died: bool = False
    paused: bool = False


class Daemon:
    """The process.

    Args:
        world: what it acts on.
        die_at: one of STEPS, SHIPPING, TAKING or REMOVING.
        pause_at: the same; it stops there for good, or nobody listens to it from there on.
    """

    def __init__(self, world: World, *, die_at: str = "", pause_at: str = "") -> None:
        self._die_at = die_at
        self._command = _COMMANDS.get(die_at or pause_at, "")
        self._window_after = _SUSPENDS_AFTER.get(die_at or pause_at)
        if self._command:
            _slow_down(self._command)
        lines, told = os.pipe()
        asked, asking = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(lines)
            os.close(asking)
            _live(world, _Teller(told, die_at, pause_at), asked)
        os.close(told)
        os.close(asked)
        self._lines = os.fdopen(lines, encoding="utf-8")
        self._asking = asking

    def turn(self, *, due: bool) -> Turn:
        """Let it run one cycle; return once that ended, or the process, or it paused.

        Raises:
            CommandError: it shall die, but lived.
        """
        os.write(self._asking, b"d" if due else b"-")
        turn = Turn()
        for line in self._lines:
            said: dict[str, Any] = json.loads(line)
            if "step" in said:
                turn.steps.append(said["step"])
                turn.paused = self._ends_in_window(said["step"])
            turn.points += said.get("points", [])
            turn.events += said.get("events", [])
            turn.error = said.get("error", turn.error)
            turn.paused = turn.paused or "paused" in said
            if "points" in said or turn.paused:
                break
        else:
            turn.died = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == -signal.SIGKILL
        if bool(self._die_at) != turn.died:
            raise kit.CommandError(f"shall die: {self._die_at or 'no'}; it did: {turn}")
        if turn.died:
            self._close()
        return turn

    def end(self) -> None:
        """End it in good order, between turns."""
        os.close(self._asking)
        self._lines.close()
        os.waitpid(self.pid, 0)

    def _close(self) -> None:
        if self._command:
            lvm_kit.let_live(self._command)
        os.close(self._asking)
        self._lines.close()

    def _ends_in_window(self, step: str) -> bool:
        """Kill it, or say that it is to be left, once lvm2 holds the volume suspended."""
        if step != self._window_after:
            return False
        deadline = time.monotonic() + TURN_S_MAX
        while not is_suspended():
            if time.monotonic() > deadline:
                raise kit.CommandError(f"{crash_world.VOLUME} was never suspended")
            time.sleep(0.001)
        if self._die_at:
            os.kill(self.pid, signal.SIGKILL)
        return not self._die_at


def _slow_down(program: str) -> None:
    inject = f"strace -o /dev/null -e trace=ioctl -e inject=ioctl:delay_enter={_SLOW_US}"
    lvm_kit.run_first(program, f'exec {inject} /usr/sbin/{program} "$@"')


def is_suspended() -> bool:
    """Return whether the volume holds its readers and writers back."""
    with Control() as control:
        info = control.info(crash_world.ORIGIN_DM)
    return info is not None and info.suspended


class _Teller:
    """The pipeline's reporter in the process: tells the parent, dies or pauses where it shall."""

    def __init__(self, fd: int, die_at: str, pause_at: str) -> None:
        self._fd, self._die_at, self._pause_at = fd, die_at, pause_at
        self.events: list[str] = []

    def say(self, **facts: object) -> None:
        os.write(self._fd, json.dumps(facts).encode() + b"\n")

    def step(self, name: str) -> None:
        self.say(step=name)
        self._end_at(name)

    def phase(self, name: str, seconds: float) -> None: ...

    def progress(self, progress: Progress) -> None:
        if progress.total <= 2 * progress.done < 2 * progress.total:
            self._end_at(SHIPPING)

    def event(self, kind: str, message: str, **_: object) -> None:
        sys.stderr.write(f"{kind}: {message}\n")
        self.events.append(kind)

    def _end_at(self, where: str) -> None:
        if where == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if where == self._pause_at:
            self.say(paused=where)
            while True:
                time.sleep(60)


def _live(world: World, teller: _Teller, asked: int) -> None:
    status = 1
    try:
        asyncio.run(_turns(world, teller, asked))
        status = 0
    except BaseException as error:
        sys.stderr.write(f"the daemon: {error!r}\n")
        raise
    finally:
        os._exit(status)


async def _turns(world: World, teller: _Teller, asked: int) -> None:
    """Open the volume as the daemon does, then do what is asked until nobody asks any more."""
    clock, config = SystemClock(), world.config
    settings = config.volumes[crash_world.VOLUME]

    def say(kind: str, message: str, **_: object) -> None:
        teller.event(kind, message)

    opened = None
    while word := os.read(asked, 1):
        if opened is None:
            opened = await VolumeOpener(config, settings, lvm=Lvm(), clock=clock, say=say)()
        cycle, error = Cycle(opened.volume, teller), ""
        try:
            await cycle.run(Asked(due=word == b"d"))
        except BlocksnapError as failure:
            error = f"{type(failure).__name__}: {failure.sentences()}"
        points = [point.facts.point_id for point in cycle.committed]
        teller.say(points=points, error=error, events=teller.events)
        teller.events = []
