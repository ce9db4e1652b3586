"""A host's sysfs and mountinfo as a tree of files, in the shape the kernel gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.cycle.block_device import Topology

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class RecordedHost:
    """Build it with ``add`` and ``mount``; ask it with ``topology``."""

    def __init__(self, folder: Path) -> None:
        self._sys, self._proc = folder / "sys", folder / "proc"
        for part in ("block", "class/block", "dev/block", "devices"):
            (self._sys / part).mkdir(parents=True)
        (self._proc / "self").mkdir(parents=True)
        (self._proc / "self/mountinfo").touch()
        self.topology = Topology(sys=str(self._sys), proc=str(self._proc))

    def add(
        self, devno: str, name: str, *, disk: str = "", slaves: Sequence[str] = (),
        dm: tuple[str, str] | None = None, file: str = "",
    ) -> None:  # fmt: skip
        """Add a block device; ``disk`` makes it a partition, ``file`` a loop device."""
        place = self._sys / "devices" / disk / name
        place.mkdir()
        (place / "dev").write_text(f"{devno}\n")
        (self._sys / "dev/block" / devno).symlink_to(place)
        (self._sys / "class/block" / name).symlink_to(place)
        (place / "queue").mkdir()
        (place / "queue/logical_block_size").write_text("512\n")
        (place / "holders").mkdir()
        if disk:
            (place / "partition").write_text("1\n")
        else:
            (self._sys / "block" / name).symlink_to(place)
        (place / "slaves").mkdir()
        for slave in slaves:
            lower = (self._sys / "class/block" / slave).resolve()
            (place / "slaves" / slave).symlink_to(lower)
            (lower / "holders" / name).symlink_to(place)
        if dm:
            (place / "dm").mkdir()
            (place / "dm/name").write_text(f"{dm[0]}\n")
            (place / "dm/uuid").write_text(f"{dm[1]}\n")
        if file:
            (place / "loop").mkdir()
            (place / "loop/backing_file").write_text(f"{file}\n")
            (place / "loop/dio").write_text("1\n")

    def mount(self, devno: str, point: str, kind: str, source: str, options: str = "rw") -> None:
        """Mount ``devno`` at ``point``."""
        with (self._proc / "self/mountinfo").open("a") as info:
            info.write(f"1 1 {devno} / {point} rw - {kind} {source} {options}\n")
