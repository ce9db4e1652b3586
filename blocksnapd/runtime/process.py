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
import subprocess
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


class _Listener(asyncio.SubprocessProtocol):
    """Keeps what a program says; ``end`` is set when it is gone and has said everything."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.too_much = False
        self._said = {1: bytearray(), 2: bytearray()}
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        self._said[fd] += data
        if len(self._said[fd]) > OUTPUT_SIZE_MAX and not self.too_much and self._transport:
            self.too_much = True
            self._transport.close()  # kills it, too

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
