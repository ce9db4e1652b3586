"""Run commands that suspend an origin, and never leave the origin suspended. Edge.

    echo '{"argv": [...], "origin": "vg-data", ...}' | python -m blocksnapd.cycle.guard

A process of its own, in its own session, memory-locked, out of the OOM killer's reach, with
``/dev/mapper/control`` open and used once before the command starts. It watches the origin's
suspended flag every ``_POLL_S`` while the command runs, and so measures how long writers were
held. When the command dies with the origin suspended, or holds it longer than the limit, the
guard kills it and resumes everything bottom-up (dm_stack.py).

    stdin     orders, a JSON line each, one after the other; at its end the guard ends. Should the
              daemon die, what was ordered is seen through all the same
    stdout    for each a JSON line {"pid": N} when the command runs, and one with the report

Rules of this file: standard library only, nothing imported late, and no file touched between
the start of the command and its end: our own root file system may be the one that is frozen.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import NamedTuple

from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.dm_stack import find_stack, resume_forward
from blocksnapd.errors import BlocksnapError

_POLL_S = 0.0015
_TAIL_SIZE_MAX = 16 * 1024
_KILL_GRACE_S = 5.0
_LOCK_CURRENT_AND_FUTURE = 3
_READ_SIZE = 4096


class Order(NamedTuple):
    """What the daemon asks for.

    ``suspend_s_max`` limits one suspended window, ``command_s_max`` the whole command;
    ``names`` are further snapshots (device-mapper names) to resume if it dies.
    """

    argv: list[str]
    env: dict[str, str]
    origin: str
    names: list[str]
    suspend_s_max: float
    command_s_max: float


class Report(NamedTuple):
    """How it went. Times are seconds; ``suspended_at`` is since the epoch.

    ``suspended_s`` is the longest suspended window, measured from the last look before it to
    the first look after it: never less than the truth, at most two looks more. A window so short
    that no look met it counts as the longest time between two looks, and as at the command's end.
    """

    status: int
    stdout: str
    stderr: str
    duration_s: float
    suspended_s: float
    suspended_at: float
    resumed: list[str]
    killed: str
    locked: bool
    trouble: str


class Watch:
    """The origin's suspended flag over time."""

    def __init__(self, control: Control, origin: str) -> None:
        self._control, self._origin = control, origin
        self._clear_at = time.monotonic()
        self._open_since: float | None = None
        self._seen_s = self._unseen_s = 0.0
        self.seen_at = 0.0

    @property
    def longest_s(self) -> float:
        """The longest window, see ``Report``."""
        return self._seen_s or self._unseen_s

    def look(self) -> float:
        """Ask the kernel; return for how long the origin has been suspended, 0 if it is not."""
        try:
            info = self._control.info(self._origin)
        except BlocksnapError:  # no answer this time (out of kernel memory): what was true holds
            return time.monotonic() - self._open_since if self._open_since is not None else 0.0
        now = time.monotonic()
        if info is not None and info.suspended:
            if self._open_since is None:
                self._open_since = self._clear_at
                self.seen_at = time.time()
            self._seen_s = max(self._seen_s, now - self._open_since)
            return now - self._open_since
        if self._open_since is not None:
            self._seen_s = max(self._seen_s, now - self._open_since)
        self._unseen_s = max(self._unseen_s, now - self._clear_at)
        self._clear_at, self._open_since = now, None
        return 0.0


class Child:
    """The command, and the tail of what it says."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        """Start it with stdin from /dev/null; raises OSError if it cannot be started."""
        self._pipes: dict[int, bytearray] = {}
        out, out_child = os.pipe()
        err, err_child = os.pipe()
        # The child's copies of these descriptors get no close-on-exec flag from dup2.
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out_child, 1),
            (os.POSIX_SPAWN_DUP2, err_child, 2),
        ]
        try:
            # Signals that the guard ignores would stay ignored in the command. SIGPIPE shall:
            # a warning printed after the guard was killed must not kill the command, too.
            self.pid = os.posix_spawnp(
                argv[0], argv, env, file_actions=actions,
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
            )  # fmt: skip
        finally:
            os.close(out_child)
            os.close(err_child)
        self._out, self._err = out, err
        self._pipes = {out: bytearray(), err: bytearray()}
        self._poll = select.poll()
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self._open = set(self._pipes)

    def wait(self, seconds: float) -> int | None:
        """Read what comes for at most ``seconds``; return the exit status once it ended."""
        for fd, _ in self._poll.poll(seconds * 1000):
            self._drain(fd)
        pid, raw = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        for fd in list(self._open):
            self._drain(fd)
        return os.waitstatus_to_exitcode(raw)

    def kill(self) -> None:
        """End it at once; it is still to be waited for."""
        os.kill(self.pid, signal.SIGKILL)

    def ask_to_end(self) -> None:
        """Ask it to end in order: lvm2 heeds this outside its critical section only."""
        os.kill(self.pid, signal.SIGTERM)

    def said(self) -> tuple[str, str]:
        """Return the tails of stdout and stderr."""
        out, err = self._pipes[self._out], self._pipes[self._err]
        return out.decode(errors="replace"), err.decode(errors="replace")

    def close(self) -> None:
        """Let go of its pipes; it ended, or never will."""
        for fd in self._pipes:
            os.close(fd)

    def _drain(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._poll.unregister(fd)
            self._open.discard(fd)
            return
        tail = self._pipes[fd]
        tail += data
        del tail[:-_TAIL_SIZE_MAX]


def run(order: Order, control: Control, *, locked: bool) -> Report:
    """Run the command under watch; return when the origin is writable again.

    Raises:
        OSError: the command could not be started.
    """
    started = time.monotonic()
    watch = Watch(control, order.origin)
    child = Child(order.argv, order.env)
    _say({"pid": child.pid})
    status, killed = _see_through(order, child, watch, started)
    resumed: list[str] = []
    trouble = ""
    if killed or status < 0 or watch.look() > 0:
        resumed, trouble = _resume(order, control)
        if status == _UNFINISHED:  # it hung on the suspended device itself, and can die now
            status = _await_death(child)
    watch.look()
    ended_at = time.time()
    stdout, stderr = child.said()
    child.close()
    return Report(
        status=status, stdout=stdout, stderr=stderr, duration_s=time.monotonic() - started,
        suspended_s=watch.longest_s, suspended_at=watch.seen_at or ended_at, resumed=resumed,
        killed=killed, locked=locked, trouble=trouble,
    )  # fmt: skip


_UNFINISHED = -1000


def _see_through(order: Order, child: Child, watch: Watch, started: float) -> tuple[int, str]:
    """Watch the command until it ended or had to be killed; return (status, why killed)."""
    asked_at = 0.0
    while True:
        status = child.wait(_POLL_S)
        suspended_s = watch.look()
        if status is not None:
            return status, ""
        now = time.monotonic()
        if suspended_s > order.suspend_s_max:
            child.kill()
            return _UNFINISHED, f"it held the origin suspended for {suspended_s:.1f} s"
        if suspended_s or now - started < order.command_s_max:
            continue
        if not asked_at:
            asked_at = now
            child.ask_to_end()
        elif now - asked_at > _KILL_GRACE_S:
            child.kill()
            return _UNFINISHED, f"it ran for {now - started:.0f} s"


def _resume(order: Order, control: Control) -> tuple[list[str], str]:
    try:
        return resume_forward(control, order.origin, tuple(order.names)), ""
    except BlocksnapError as error:
        return [], error.sentences()


def _await_death(child: Child) -> int:
    deadline = time.monotonic() + _KILL_GRACE_S
    while time.monotonic() < deadline:
        status = child.wait(_POLL_S)
        if status is not None:
            return status
    return _UNFINISHED


def _protect() -> bool:
    """Leave the parent's session, the OOM killer's list and swap; return whether memory is locked.

    With real-time priority a busy machine delays neither the measurement nor the rescue; the
    command itself does not inherit it. Each step may be refused to a process without the rights;
    the guard works without them.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # only the end of the command ends the guard
    if os.getsid(0) != os.getpid():
        os.setsid()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as knob:
        knob.write(b"-1000")
    with contextlib.suppress(OSError):
        priority = os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO))
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, priority)
    return bool(ctypes.CDLL(None).mlockall(_LOCK_CURRENT_AND_FUTURE) == 0)


def _warm_up(order: Order, control: Control) -> None:
    """Run every path once, so that nothing of it must come from a disk later."""
    Watch(control, order.origin).look()
    find_stack(control, order.origin, tuple(order.names))
    json.dumps(Report(0, "", "\ufffd", 0.5, 0.5, 0.5, [""], "", True, "")._asdict())
    f"{1.5:.1f} {1.5:.0f}".encode().decode(errors="replace")


def _say(line: dict[str, object]) -> None:
    try:
        os.write(1, json.dumps(line).encode() + b"\n")
    except OSError:
        return  # the daemon died; what was begun is seen through all the same


def main() -> int:
    """Carry out the orders from stdin; return 0 when a report of each was made."""
    try:
        locked = _protect()
        with Control() as control:
            for line in sys.stdin.buffer:
                order = Order(**json.loads(line))
                _warm_up(order, control)
                _say(run(order, control, locked=locked)._asdict())
    except (OSError, BlocksnapError) as error:
        _say({"failed": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
