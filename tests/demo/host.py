"""The host the demo plays on: disks, a volume group, a mounted XFS, and a load. Edge.

In the lab the disks are the guest's own; with HERE=1 they are loop devices over files in one
temporary directory. Everything made here is undone by ``close``, in reverse order, also after an
interruption.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
DISK_SIZES = {"data": 1024 * MIB, "snapshots": 2048 * MIB, "vault": 8192 * MIB}
VOLUME_SIZE = 400 * MIB


def run(*argv: str, check: bool = True) -> str:
    """Run a program of the system; return what it printed."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


class Host:
    """A machine with a protected volume ``VG/data``, a snapshot disk and a vault."""

    def __init__(self, work: str, vg: str, disks: dict[str, str] | None) -> None:
        """Use the block devices ``disks`` (data, snapshots, vault), or make loop devices."""
        self.work, self.vg = work, vg
        self.volume = f"{vg}/data"
        self.mount = f"{work}/mnt/data"
        self.snapshots = f"{work}/mnt/snapshots"
        self.vault = f"{work}/mnt/vault"
        self._undo: list[Callable[[], object]] = []
        self._disks = disks or {}

    def prepare(self) -> None:
        """Make what an administrator's host has before blocksnap comes."""
        if not self._disks:
            self._disks = {name: self._loop(name, size) for name, size in DISK_SIZES.items()}
        data = self._disks["data"]
        run("pvcreate", "-qqy", data)
        self._undo.append(lambda: run("pvremove", "-qqff", "-y", data, check=False))
        run("vgcreate", "-qq", self.vg, data)
        self._undo.append(lambda: run("vgremove", "-qqff", "-y", self.vg, check=False))
        run("lvcreate", "-qqy", "-Wy", "-n", "data", "-L", f"{VOLUME_SIZE}b", self.vg)
        run("mkfs.xfs", "-qf", f"/dev/{self.volume}")
        self._mount(f"/dev/{self.volume}", self.mount)
        for name, where in (("snapshots", self.snapshots), ("vault", self.vault)):
            run("mkfs.ext4", "-qF", self._disks[name])
            self._mount(self._disks[name], where)

    def snapshot_path(self, point_id: str) -> str:
        """Return the device of the snapshot taken for a point."""
        return f"/dev/mapper/{self.vg.replace('-', '--')}-bs_{point_id}"

    def snapshot_names(self) -> list[str]:
        """Return the names of every snapshot there is."""
        names = run("lvs", "--noheadings", "-o", "lv_name", "-S", "lv_attr=~^[sS]", self.vg)
        return names.split()

    def later(self, undo: Callable[[], object]) -> None:
        """Call ``undo`` at the end, before what was made earlier is undone."""
        self._undo.append(undo)

    def close(self) -> None:
        """Undo everything; what fails does not keep the rest from being undone."""
        while self._undo:
            with contextlib.suppress(Exception):
                self._undo.pop()()

    def _loop(self, name: str, size: int) -> str:
        path = f"{self.work}/{name}.img"
        with open(path, "xb") as file:
            file.truncate(size)
        device = run("losetup", "--find", "--show", path).strip()
        self._undo.append(lambda: run("losetup", "--detach", device, check=False))
        return device

    def _mount(self, device: str, where: str) -> None:
        os.makedirs(where)
        run("mount", device, where)
        self._undo.append(lambda: run("umount", where, check=False))


class Load:
    """Writes to a directory all the time: creates, overwrites, appends, removes, syncs."""

    def __init__(self, directory: str, *, size_max: int) -> None:
        self._directory = directory
        self._size_max = size_max
        self._dice = random.Random(2012)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="load")
        self.written = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._stop.wait(0.05):
            path = f"{self._directory}/file-{self._dice.randrange(40)}"
            if self._dice.random() < 0.1 and os.path.exists(path):
                os.unlink(path)
                continue
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            try:
                size = self._dice.randrange(1, 64 << 10)
                offset = self._dice.randrange(self._size_max // 40)
                os.pwrite(fd, self._dice.randbytes(size), offset)
                self.written += size
                if self._dice.random() < 0.2:
                    os.fsync(fd)
            finally:
                os.close(fd)
