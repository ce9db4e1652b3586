"""What a snapshot costs those who write to its origin, by the size of its chunks.

    python -m tests.bench.bench_write_cost [rounds]

A lab guest with LVM; a volume of 1 GiB, its COW space on another disk. Seconds are the guest's and
good for ratios only; bytes are counted by the kernel. The median of the rounds is printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.lab.machine import GUEST_DIR, Machine, missing

MIB = 1 << 20
DISKS = [1040 * MIB, 1140 * MIB]
COLUMNS = ("random_s", "again_s", "in_order_s", "used", "moved")


def main() -> None:
    """Run and print."""
    if lacks := missing():
        print("not measured: the lab needs " + ", ".join(lacks))
        return
    rounds = sys.argv[1] if len(sys.argv) > 1 else "5"
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory) / "machine", DISKS)
        told = machine.run(GUEST_DIR / "write_cost.py", rounds, blank=True, limit_s=900).events
        machine.close()
    costs = [event for event in told if event["event"] == "cost"]
    sizes = list(dict.fromkeys(event["chunk_size"] for event in costs))
    found = {size: _median([e for e in costs if e["chunk_size"] == size]) for size in sizes}
    alone = found.pop(0)
    print("time of a write beside one without a snapshot; bytes for each byte written at random")
    print("  chunk   4 KiB at random   the same again   1 MiB in order   COW space   copied")
    for size, cost in found.items():
        ratios = [f"x{cost[column] / alone[column]:.2f}" for column in COLUMNS[:3]]
        print(
            f"{size >> 10:3} KiB   {ratios[0]:>15}   {ratios[1]:>14}   {ratios[2]:>14}"
            f"   {cost['used']:9.1f}   {cost['moved']:6.1f}"
        )


def _median(events: list[dict[str, Any]]) -> dict[str, float]:
    return {column: statistics.median(event[column] for event in events) for column in COLUMNS}


if __name__ == "__main__":
    main()
