"""``python -m tests.demo``: in the lab, or with ``--here`` on this host."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.demo import play
from tests.demo.host import DISK_SIZES
from tests.lab.machine import GuestFailedError, Machine, repeat_aborted


def main() -> int:
    """Return the exit status of the play."""
    if sys.argv[1:] == ["--here"]:
        sys.argv[1:] = []
        return play.main()
    return repeat_aborted(in_the_lab)


def tell(line: str) -> None:
    """Print a line of the guest's console, but not what its kernel says while it boots."""
    if not line.startswith(("SELinux:", "mmapper_init")):
        print(line, flush=True)


def in_the_lab() -> int:
    """Boot a guest with the three disks and play there."""
    disks = [f"--disk={name}=/dev/ubd{'abc'[i]}" for i, name in enumerate(DISK_SIZES)]
    with tempfile.TemporaryDirectory(prefix="blocksnap-demo-") as folder:
        machine = Machine(
            Path(folder) / "machine", list(DISK_SIZES.values()), memory_mib=2048,
            echo=tell,
        )  # fmt: skip
        try:
            machine.run(Path(play.__file__), *disks, limit_s=400)
        except GuestFailedError as error:
            print(f"the demo failed: {str(error).splitlines()[0]}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
