"""Records what a daemon exposes while a COW device fills in the lab, for the tests of the alerts.

    .venv/bin/python -m tests.lab.record_cow_fill > tests/recordings/cow_fills.txt

One line ``@ STEP`` for each scrape, two seconds apart, then those series that changed since the
one before.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab.machine import GUEST_DIR, Machine

MIB = 1 << 20
SIZES = [512 * MIB, 512 * MIB, 1024 * MIB, 64 * MIB]
COMMAND = ".venv/bin/python -m tests.lab.record_cow_fill > tests/recordings/cow_fills.txt"


def main() -> None:
    """Run the guest and print what it saw."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), disk_sizes=SIZES)
        result = machine.run(GUEST_DIR / "cow_fills.py", blank=True, limit_s=600)
    print(f"# Made by: {COMMAND}")
    before: set[str] = set()
    for event in result.events:
        if event["event"] == "step":
            lines = event["lines"]
            print(f"@ {event['number']}", *(x for x in lines if x not in before), sep="\n")
            before = set(lines)


if __name__ == "__main__":
    main()
