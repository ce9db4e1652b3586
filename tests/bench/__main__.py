"""``python -m tests.bench``: every measurement, one after the other; none passes or fails."""

from __future__ import annotations

import subprocess
import sys

MEASUREMENTS = (
    "bench_parse",
    "bench_store",
    "bench_restore",
    "bench_in_place",
    "bench_write_cost",
    "bench_export",
    "bench_compare",
    "bench_open",
    "bench_network",
    "bench_fleet",
    "bench_status",
)


def main() -> int:
    """Run each in a process of its own, so that one's memory does not count for the next."""
    wanted = sys.argv[1:] or MEASUREMENTS
    for name in wanted:
        print(f"== {name}", flush=True)
        status = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{name}"], check=False
        ).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
