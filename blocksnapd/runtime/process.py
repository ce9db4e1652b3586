"""Run one argv with a deadline, and remember the last ones. Edge.

Never a shell, stdin from /dev/null (a prompt takes its default instead of hanging), no inherited
descriptors, ``LC_ALL=C``. Output is bounded. What was run lately stays in a ``FlightRecorder``
so that a failure can be told with what led to it.

``run`` is for tools that we know; ``run_group`` for an operator's own program, with all that it
starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocksnapd.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OUTPUT_SIZE_MAX = 32 * 1024 * 1024
RECORDED_COUNT_MAX = 32
RECORDED_TEXT_MAX = 2000
KILL_GRACE_S = 5.0
TAIL_SIZE_MAX = 16 * 1024
GROUP_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ran. ``status`` is its exit status, negative for a signal."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    duration_s: float

    @property
    def said(self) -> str:
        """What it complained about, as one line."""
        text = self.stderr.strip() or self.stdout.strip()
        return "; ".join(line.strip() for line in text.splitlines() if line.strip())


class FlightRecorder:
    """The last programs that were run, oldest first."""

    def __init__(self, count_max: int = RECORDED_COUNT_MAX) -> None:
        self._runs: deque[Finished] = deque(maxlen=count_max)

    def add(self, run: Finished) -> None:
        """Remember a run; the oldest one is forgotten, and long output is cut."""
        self._runs.append(
            Finished(
                run.argv,
                run.status,
                run.stdout[-RECORDED_TEXT_MAX:],
                run.stderr[-RECORDED_TEXT_MAX:],
                run.duration_s,
            )
        )

    def runs(self) -> list[Finished]:
        """Return what is remembered."""
        return list(self._runs)

    def lines(self) -> Iterable[str]:
        """Yield one line per run, for a log."""
        for run in self._runs:
            yield (
                f"{shlex.join(run.argv)} => {run.status} in {run.duration_s:.2f} s"
                f"{': ' + run.said if run.status else ''}"
            )


def base_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for programs: ours, in the C locale, with the system's paths."""
    environment = dict(os.environ)
    environment["LC_ALL"] = "C"
    path = environment.get("PATH", "")
    environment["PATH"] = f"{path}:/usr/sbin:/usr/bin:/sbin:/bin".lstrip(":")
    environment.update(extra or {})
    return environment


def own_argv(*words: str) -> list[str]:
    """Return the argv of this very program with other ``words``.

    No code is looked for in the directory that we were started from.
    """
    return [sys.executable, "-P", "-m", "blocksnapd", *words]


async def run(
    argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None,
    recorder: FlightRecorder | None = None,
) -> Finished:  # fmt: skip
    """Run a program to its end; a status other than 0 is no error here.

    At the deadline it gets SIGTERM, ``KILL_GRACE_S`` later SIGKILL; so also when the caller is
    cancelled.

    Raises:
        FileNotFoundError: there is no such program.
        HostError: it did not end in time, or said more than ``OUTPUT_SIZE_MAX`` bytes.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    transport, heard = await loop.subprocess_exec(
        _Listener, *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=base_environment(environment), start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            await heard.end.wait()
    except TimeoutError:
        raise HostError(
            f"'{shlex.join(argv)}' did not end within {timeout_s:.0f} s and was killed.",
            hint="A lock or a hanging disk holds it; look at the kernel log.",
        ) from None
    finally:
        await asyncio.shield(_end(transport, heard))
    if heard.too_much:
        raise HostError(f"'{argv[0]}' said more than {OUTPUT_SIZE_MAX} bytes; it was stopped.")
    status = transport.get_returncode()
    duration_s = time.monotonic() - started
    assert status is not None  # it has ended
    finished = Finished(tuple(argv), status, heard.text(1), heard.text(2), duration_s)
    if recorder is not None:
        recorder.add(finished)
    return finished


async def run_group(
    argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str], user: str = "",
) -> tuple[Finished, bool]:  # fmt: skip
    """Run a program that is not ours as ``user``; return how it ended, and whether in time.

    It gets ``environment`` and nothing of ours, ``/`` to stand in, and a process group of its
    own. What it started there is killed when it ends, and all of it at the deadline: SIGTERM,
    ``GROUP_GRACE_S`` later SIGKILL. Of what it says the last ``TAIL_SIZE_MAX`` bytes are kept.

    Raises:
        OSError: it cannot be started. LookupError: there is no such user.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    transport, heard = await loop.subprocess_exec(
        lambda: _Listener(keep=TAIL_SIZE_MAX), *argv, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(environment), cwd="/",
        start_new_session=True, **_identity(user),
    )  # fmt: skip
    assert isinstance(heard, _Listener)
    in_time = True
    try:
        async with asyncio.timeout(timeout_s):
            await heard.gone.wait()
    except TimeoutError:
        in_time = False
    finally:
        await asyncio.shield(_end_group(transport, heard))
    status = transport.get_returncode()
    ended = Finished(
        tuple(argv), -signal.SIGKILL if status is None else status, heard.text(1), heard.text(2),
        time.monotonic() - started,
    )  # fmt: skip
    return ended, in_time


def _identity(user: str) -> dict[str, Any]:
    """Return what makes a child that user; nothing if we are."""
    if not user:
        return {}
    account = pwd.getpwnam(user)
    if account.pw_uid == os.geteuid():
        return {}
    groups = os.getgrouplist(user, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}


async def _end_group(transport: asyncio.SubprocessTransport, heard: _Listener) -> None:
    """End what is left of a process group; who hangs in the kernel is left behind."""
    for number, ended in ((signal.SIGTERM, heard.gone), (signal.SIGKILL, heard.end)):
        if number == signal.SIGTERM and ended.is_set():
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(transport.get_pid(), number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), GROUP_GRACE_S)
    transport.close()


class _Listener(asyncio.SubprocessProtocol):
    """Keeps what a program says; ``end`` is set when it is gone and has said everything.

    ``gone`` is set when it is gone itself. With ``keep`` only the last bytes stay.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.end = asyncio.Event()
        self.gone = asyncio.Event()
        self._keep = keep
        self.too_much = False
        self._said = {1: bytearray(), 2: bytearray()}
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        self._said[fd] += data
        if self._keep is not None:
            del self._said[fd][: -self._keep]
        elif len(self._said[fd]) > OUTPUT_SIZE_MAX and not self.too_much and self._transport:
            self.too_much = True
            self._transport.close()  # kills it, too

    def process_exited(self) -> None:
        self.gone.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.end.set()

    def text(self, fd: int) -> str:
        return self._said[fd].decode(errors="replace")


async def _end(transport: asyncio.SubprocessTransport, heard: _Listener) -> None:
    """Make sure that it is gone, unless it hangs in the kernel: then it is left behind."""
    for stop in (transport.terminate, transport.kill):
        if heard.end.is_set():
            break
        with contextlib.suppress(ProcessLookupError):
            stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.end.wait(), KILL_GRACE_S)
    transport.close()
