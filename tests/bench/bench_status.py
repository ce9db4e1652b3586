"""What ``blocksnapctl status`` costs from start to end: CPU and time of the whole program.

    make bench ARGS=bench_status

Beside it what an empty program of the same interpreter costs, which nothing can go below.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time

from tests.control.serving import serving

COUNT = 9


def measure(*argv: str) -> tuple[float, float]:
    """Return CPU and elapsed milliseconds of a program, medians of ``COUNT``."""
    cpu_ms, took_ms = [], []
    for _ in range(COUNT):
        began = time.monotonic()
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=quiet)
        _, status, used = os.wait4(pid, 0)
        took_ms.append(1000 * (time.monotonic() - began))
        assert status == 0, argv
        cpu_ms.append(1000 * (used.ru_utime + used.ru_stime))
    return statistics.median(cpu_ms), statistics.median(took_ms)


async def main() -> None:
    """Measure and print."""
    python = [sys.executable, "-P"]
    async with serving() as served:
        words = ["-m", "blocksnapctl", "status", "--socket", served.path]
        cpu_ms, took_ms = await asyncio.to_thread(measure, *python, *words)
    floor_ms, _ = await asyncio.to_thread(measure, *python, "-c", "")
    print(f"status: {cpu_ms:.0f} ms CPU, {took_ms:.0f} ms in all (median of {COUNT}; limit 150 ms)")
    print(f"an empty program: {floor_ms:.0f} ms CPU; status is {cpu_ms / floor_ms:.1f} times that")


if __name__ == "__main__":
    asyncio.run(main())
