"""What guest programs about LVM snapshots share: a source, a stall meter, commands made to die.

A command is made to die by a script of its name that stands first in PATH: strace then kills the
real one as it enters its n-th ioctl. The product's code runs unchanged.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.lvm_source import CowPlace, LvmSource
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.extents import merge_chunks
from tests.lab.guest import kit

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm import Lvm

ORIGIN, ORIGIN_DM = "vg/data", "vg-data"
SIZE = 300 * kit.MIB
SNAP_DISK = kit.MOUNT.parent / "snap"
COW_FILE = str(SNAP_DISK / "cow")
TRACE = Path("/run/lab/tmp/trace")
_BIN = Path("/run/lab/tmp/bin")
# At once: a guard looks for its commands where it was started to look.
os.environ["PATH"] = f"{_BIN}:{os.environ['PATH']}"
_CHANGING = re.compile(r"DM_(DEV_SUSPEND|TABLE_LOAD|DEV_REMOVE|DEV_CREATE|DEV_RENAME)")


def make_origin(kind: str = "xfs") -> str:
    """Make the volume vg/data on the first disk, mounted; return its path."""
    kit.make_vg("vg", "/dev/ubda")
    path = kit.make_lv("vg", "data", SIZE, "/dev/ubda")
    kit.make_fs(kind, path, kit.MOUNT)
    return path


def add_cow_disk(disk: str = "/dev/ubdb") -> None:
    """Add ``disk`` to the group as COW space, without a file."""
    kit.run("pvcreate", "-qqy", disk)
    kit.run("vgextend", "-qq", "vg", disk)
    kit.run("pvchange", "-qq", "--addtag", "blocksnap_cow", disk)


def make_source(lvm: Lvm, *, volume: str = ORIGIN, **place: object) -> LvmSource:
    """Return the change source of ``volume``; ``place`` goes to ``CowPlace``."""
    return LvmSource(
        volume,
        lvm=lvm,
        place=CowPlace(**place),  # type: ignore[arg-type]
        open_cow=CowDevice,
        merge_chunks=merge_chunks,
    )


def point(number: int) -> str:
    """Return the point id number ``number``."""
    return f"p{number:016x}"


class StallMeter:
    """A process that writes 4 KiB past the page cache, again and again, and times each write."""

    def __init__(self, path: Path) -> None:
        self._shared = mmap.mmap(-1, 4096)
        self._path = path
        self._writer = kit.Writer(self._write)

    def __enter__(self) -> StallMeter:
        self._writer.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._writer.__exit__(*reason)

    def worst_s(self) -> float:
        """Return the longest write since the last call, one that still hangs included."""
        longest, begun, _count = struct.unpack_from("<ddQ", self._shared)
        hangs = time.monotonic() - begun if begun else 0.0
        struct.pack_into("<d", self._shared, 0, 0.0)
        return float(max(longest, hangs))

    def writes(self, *, within_s: float) -> bool:
        """Return whether two more writes end within ``within_s``."""
        deadline = time.monotonic() + within_s
        wanted = self._count() + 2
        while self._count() < wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _count(self) -> int:
        return int(struct.unpack_from("<Q", self._shared, 16)[0])

    def _write(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        buffer = mmap.mmap(-1, 4096)
        count = 0
        while True:
            count += 1
            buffer[:8] = struct.pack("<Q", count)
            begun = time.monotonic()
            struct.pack_into("<d", self._shared, 8, begun)
            os.pwrite(fd, buffer, count % 512 * 4096)
            struct.pack_into("<d", self._shared, 8, 0.0)
            longest = struct.unpack_from("<d", self._shared, 0)[0]
            struct.pack_into("<d", self._shared, 0, max(longest, time.monotonic() - begun))
            struct.pack_into("<Q", self._shared, 16, count)
            time.sleep(0.001)


@dataclass(frozen=True)
class Window:
    """Numbers of a command's ioctls: the origin's suspend, its resume, and what changes devices."""

    suspend: int
    resume: int
    changing: list[int]

    def numbers(self, *, every: bool) -> list[int]:
        """Return before which ioctls to die: each one, or those that change the state."""
        return list(range(self.suspend + 1, self.resume + 1)) if every else self.changing


def count_ioctls(program: str) -> None:
    """Let the next ``program`` write its ioctls down."""
    _wrap(program, f'exec strace -o {TRACE} -e trace=ioctl {_real(program)} "$@"')


def let_die(program: str, number: int, *, first: str = "") -> None:
    """Let ``program`` die as it enters its ioctl ``number``; the shell runs ``first`` before it."""
    inject = f"inject=ioctl:signal=SIGKILL:when={number}"
    _wrap(program, f"{first}\nexec {_strace(program, inject)}")


def let_hang(program: str, number: int, seconds: int) -> None:
    """Let ``program`` sleep as it enters its ioctl ``number``."""
    delay = f"delay_enter={seconds * 1_000_000}"
    _wrap(program, f"exec {_strace(program, f'inject=ioctl:{delay}:when={number}')}")


def run_first(program: str, first: str) -> None:
    """Let the shell commands ``first`` run before ``program``."""
    _wrap(program, f'{first}\nexec {_real(program)} "$@"')


def let_live(program: str) -> None:
    """Give the real ``program`` back."""
    (_BIN / program).unlink(missing_ok=True)


def window() -> Window:
    """Return where the origin was suspended in what ``count_ioctls`` wrote down."""
    with Control() as control:
        info = control.info(ORIGIN_DM)
    assert info is not None
    lines = TRACE.read_text().splitlines()
    minor = "0" if info.minor == 0 else f"{info.minor:#x}"
    device = f"dev=makedev({info.major:#x}, {minor})"
    calls = [line.split("=>")[0] for line in lines]
    of_origin = [
        n for n, call in enumerate(calls, 1) if "DM_DEV_SUSPEND" in call and device in call
    ]
    suspend = next(n for n in of_origin if "DM_SUSPEND_FLAG" in calls[n - 1])
    resume = next(n for n in of_origin if n > suspend and "DM_SUSPEND_FLAG" not in calls[n - 1])
    changing = [n for n in range(suspend + 1, resume + 1) if _CHANGING.search(calls[n - 1])]
    return Window(suspend, resume, changing)


def is_suspended() -> bool:
    """Return whether the origin is."""
    with Control() as control:
        info = control.info(ORIGIN_DM)
    assert info is not None
    return info.suspended


def devices() -> list[str]:
    """Return the names of all device-mapper devices, sorted."""
    with Control() as control:
        return sorted(control.names())


def _strace(program: str, inject: str) -> str:
    return f'strace -o /dev/null -e trace=ioctl -e {inject} {_real(program)} "$@"'


def _real(program: str) -> str:
    return f"/usr/sbin/{program}"


def _wrap(program: str, body: str) -> None:
    _BIN.mkdir(exist_ok=True)
    script = _BIN / program
    script.write_text(f"#!/bin/bash\n{body}\n")
    script.chmod(0o755)
