"""What a program or a part of this one costs: seconds, CPU seconds, memory."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Cost(NamedTuple):
    """Seconds on the clock and of CPU, and the highest resident set in bytes."""

    wall_s: float
    cpu_s: float
    memory: int


class CommandError(RuntimeError):
    """A program that is measured failed; the message has its words."""


def cost_of_program(
    *argv: str, environment: Mapping[str, str] | None = None, directory: str | None = None
) -> Cost:
    """Run a program; return what it cost.

    Raises:
        CommandError: it failed.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        argv, env={**os.environ, **(environment or {})}, cwd=directory,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CommandError(f"{' '.join(argv)}: status {process.returncode}\n{said.decode()}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss << 10)


def cost_of(work: Callable[[], object]) -> Cost:
    """Do some work in this process; return what it cost. Memory is the whole process's so far."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, used, after.ru_maxrss << 10)
