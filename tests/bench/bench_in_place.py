"""How long a restore in place takes beside a full one of the same point, on a real kernel.

    python -m tests.bench.bench_in_place [size of the volume] [on it] [difference]     in MiB

A lab guest with LVM and XFS; both are typed as commands, with their start, their reading back, and
for the one in place the point that it can be undone by. That one is done three times, there, back
and there again; what is printed is the median by its run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.lab.machine import GUEST_DIR, Machine, missing

MIB = 1 << 20


def main() -> None:
    """Run and print."""
    if lacks := missing():
        print("not measured: the lab needs " + ", ".join(lacks))
        return
    sizes = sys.argv[1:4] or ["2048", "1700", "50"]
    volume = int(sizes[0])
    disks = [2 * volume + 64, volume + volume // 4 + 64, 2 * volume + 256, 128]
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory) / "machine", [size * MIB for size in disks])
        result = machine.run(GUEST_DIR / "in_place_bench.py", *sizes, blank=True, limit_s=600)
        full = result.event("full")
        found = sorted(
            (event for event in result.events if event["event"] == "in place"),
            key=lambda event: event["duration"],
        )[1]
        machine.close()
    print(f"{sizes[0]} MiB, {sizes[1]} MiB of it in use, {sizes[2]} MiB differ")
    own = found["duration"] - found["phases"]["safety"]
    for name, seconds, beside in (
        ("full restore, typed", full["typed_s"], full["typed_s"]),
        ("in place, typed", found["typed_s"], full["typed_s"]),
        ("full restore, its run", full["duration"], full["duration"]),
        ("in place, its run", found["duration"], full["duration"]),
        ("  without the safety point", own, full["duration"]),
    ):
        print(f"{name:27} {seconds:6.2f} s  x{seconds / beside:.3f}")
    phases = ", ".join(f"{name} {took:.2f} s" for name, took in found["phases"].items())
    print(f"of it in place: {phases}; {found['written'] / 1e6:.1f} MB written")
    print(f"next cycle: {found['after'] / 1e6:.1f} MB changed")
    print("both equal to the reference" if full["same"] and full["same_full"] else "DIFFERENT")


if __name__ == "__main__":
    main()
