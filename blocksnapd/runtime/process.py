"""Run one argv with a deadline, and remember the last ones. Edge.

Never a shell, stdin from /dev/null (a prompt takes its default instead of hanging), no inherited
descriptors, ``LC_ALL=C``. Output is bounded. What was run lately stays in a ``FlightRecorder``
so that a failure can be told with what led to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OUTPUT_SIZE_MAX = 32 * 1024 * 1024
RECORDED_COUNT_MAX = 32
RECORDED_TEXT_MAX = 2000
KILL_GRACE_S = 5.0
_READ_SIZE = 64 * 1024


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
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=base_environment(environment), start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            stdout, stderr = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            status = await process.wait()
    except TimeoutError:
        raise HostError(
            f"'{shlex.join(argv)}' did not end within {timeout_s:.0f} s and was killed.",
            hint="A lock or a hanging disk holds it; look at the kernel log.",
        ) from None
    finally:
        await asyncio.shield(_end(process))
    duration_s = time.monotonic() - started
    finished = Finished(tuple(argv), status, stdout, stderr, duration_s)
    if recorder is not None:
        recorder.add(finished)
    return finished


async def _read(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None  # both were asked for as pipes
    data = bytearray()
    while piece := await stream.read(_READ_SIZE):
        data += piece
        if len(data) > OUTPUT_SIZE_MAX:
            raise HostError(f"A program said more than {OUTPUT_SIZE_MAX} bytes; it was stopped.")
    return data.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Make sure that it is gone, unless it hangs in the kernel: then it is left behind."""
    for stop in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), KILL_GRACE_S)
