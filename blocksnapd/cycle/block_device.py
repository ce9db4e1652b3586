"""What lies under a file or device, what lies on it, and who holds it: sysfs and /proc. Edge.

    file → its mount → block device → partition's disk | slaves (dm, md) | loop's file → ...

Device numbers are text, ``"254:3"``, as sysfs writes them. Two roots are handed in so that
recorded trees can be walked, too. What these files do not show (network file systems, another
mount namespace) is not found; callers treat the answer as "at least these".

Source: Linux, Documentation/ABI/stable/sysfs-block, Documentation/filesystems/proc.rst
(mountinfo); drivers/block/loop.c.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
from dataclasses import dataclass

from blocksnapd.errors import HostError
from blocksnapd.units import SECTOR_SIZE

DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    devno: str
    point: str
    kind: str
    source: str
    options: str


class Topology:
    """The block devices of this host, read afresh at each question."""

    def __init__(self, *, sys: str = "/sys", proc: str = "/proc") -> None:
        self._sys, self._proc = sys, proc

    def exists(self, devno: str) -> bool:
        """Whether the kernel knows the block device."""
        return os.path.exists(self._at(devno))

    def name(self, devno: str) -> str:
        """Return the kernel's name, ``loop0``; the number itself if there is none."""
        return os.path.basename(os.path.realpath(self._at(devno)))

    def dm_name(self, devno: str) -> str:
        """Return the device-mapper name, or nothing."""
        return _text(self._at(devno, "dm/name"))

    def dm_uuid(self, devno: str) -> str:
        """Return the device-mapper UUID, ``LVM-...`` for a logical volume, or nothing."""
        return _text(self._at(devno, "dm/uuid"))

    def loop_file(self, devno: str) -> str:
        """Return the file under a loop device, or nothing."""
        return _text(self._at(devno, "loop/backing_file"))

    def loop_is_direct(self, devno: str) -> bool:
        """Whether a loop device reads and writes its file past the page cache."""
        return _text(self._at(devno, "loop/dio")) == "1"

    def logical_block_size(self, devno: str) -> int:
        """Return the smallest request in bytes; 512 if unknown."""
        base = self._at(devno)
        if os.path.exists(os.path.join(base, "partition")):
            base = os.path.dirname(os.path.realpath(base))
        text = _text(os.path.join(base, "queue/logical_block_size"))
        return int(text) if text.isdigit() else 512

    def written(self, devno: str) -> int | None:
        """Return the bytes that were written to a device since boot; None: it is not there."""
        fields = _text(self._at(devno, "stat")).split()
        is_told = len(fields) > 6 and fields[6].isdigit()  # kernel: Documentation/block/stat.rst
        return int(fields[6]) * SECTOR_SIZE if is_told else None

    def loops_on(self, path: str) -> list[str]:
        """Return the loop devices (numbers) whose file is ``path``."""
        found = []
        for name in _names(os.path.join(self._sys, "block")):
            backing = _text(os.path.join(self._sys, "block", name, "loop/backing_file"))
            if backing and (backing == path or _is_same_file(backing, path)):
                found.append(_text(os.path.join(self._sys, "block", name, "dev")))
        return found

    def below(self, devno: str) -> set[str]:
        """Return ``devno`` and every block device it rests on, through loops and file systems."""
        found: set[str] = set()
        self._walk_down([devno], found, DEPTH_MAX)
        return found

    def below_file(self, path: str) -> set[str]:
        """Return every block device that the file (or block device node) ``path`` rests on.

        A path that does not exist yet counts as its directory.
        """
        found: set[str] = set()
        self._walk_down(self._under_path(path), found, DEPTH_MAX)
        return found

    def above(self, devno: str) -> set[str]:
        """Return ``devno`` and every device made of it: partitions, dm and md holders."""
        found: set[str] = set()
        waiting = [devno]
        while waiting:
            number = waiting.pop()
            if number in found or not number:
                continue
            found.add(number)
            base = self._at(number)
            waiting += [
                _text(os.path.join(self._sys, "class/block", name, "dev"))
                for name in _names(os.path.join(base, "holders"))
            ]
            waiting += [
                _text(os.path.join(base, name, "dev"))
                for name in _names(base)
                if os.path.exists(os.path.join(base, name, "partition"))
            ]
        return found

    def mounts(self) -> list[Mount]:
        """Return what is mounted, in the order it was."""
        return parse_mountinfo(_text(os.path.join(self._proc, "self/mountinfo")))

    def mount_of(self, path: str) -> Mount | None:
        """Return the mount that ``path`` lies on."""
        real = os.path.realpath(path)
        best: Mount | None = None
        for mount in self.mounts():
            is_under = real == mount.point or real.startswith(mount.point.rstrip("/") + "/")
            if is_under and (best is None or len(mount.point) >= len(best.point)):
                best = mount  # of equals the last one hides the others
        return best

    def mount_points(self, devno: str) -> list[str]:
        """Return where ``devno``, or anything made of it, is mounted."""
        numbers = self.above(devno)
        return [m.point for m in self.mounts() if numbers & set(self._under_mount(m))]

    def holders(self, devno: str) -> list[str]:
        """Return the processes that have the device open: ``"cat (process 77)"``."""
        major, minor = (int(number) for number in devno.split(":"))
        rdev = os.makedev(major, minor)
        return [
            f"{_text(os.path.join(self._proc, pid, 'comm'))} (process {pid})"
            for pid in _names(self._proc)
            if pid.isdigit() and self._has_open(pid, rdev)
        ]

    def _has_open(self, pid: str, rdev: int) -> bool:
        directory = os.path.join(self._proc, pid, "fd")
        return any(_rdev(os.path.join(directory, fd)) == rdev for fd in _names(directory))

    def _walk_down(self, start: list[str], found: set[str], depth: int) -> None:
        for devno in start:
            if devno and devno not in found and depth > 0:
                found.add(devno)
                self._walk_down(self._directly_under(devno), found, depth - 1)

    def _directly_under(self, devno: str) -> list[str]:
        base = self._at(devno)
        under = [
            _text(os.path.join(self._sys, "class/block", name, "dev"))
            for name in _names(os.path.join(base, "slaves"))
        ]
        if os.path.exists(os.path.join(base, "partition")):
            under.append(_text(os.path.join(os.path.dirname(os.path.realpath(base)), "dev")))
        backing = self.loop_file(devno)
        if backing:
            under += self._under_path(backing)
        return under

    def _under_path(self, path: str, within: tuple[str, ...] = ()) -> list[str]:
        try:
            facts = os.stat(path)
        except OSError:
            parent = os.path.dirname(path.rstrip("/"))
            return self._under_path(parent, within) if parent and parent != path else []
        if stat.S_ISBLK(facts.st_mode):
            return [_number(facts.st_rdev)]
        mount = self.mount_of(path)
        return self._under_mount(mount, within) if mount else [_number(facts.st_dev)]

    def _under_mount(self, mount: Mount, within: tuple[str, ...] = ()) -> list[str]:
        """Return the devices a mount rests on; btrfs and overlay have numbers of their own.

        ``within`` are the overlays passed on the way: where a root file system is one, the path of
        its upper directory may mean nothing here, and lead back to itself.
        """
        if mount.kind == "overlay":
            upper = re.search(r"(?:^|,)upperdir=([^,]*)", mount.options)
            if not upper or mount.point in within:
                return []
            return self._under_path(upper[1], (*within, mount.point))
        if self.exists(mount.devno):
            return [mount.devno]
        rdev = _rdev(mount.source) if mount.source.startswith("/") else -1
        if rdev < 0:
            return []
        number = _number(rdev)
        return [number, *(self._btrfs_fellows(number) if mount.kind == "btrfs" else [])]

    def _btrfs_fellows(self, devno: str) -> list[str]:
        root = os.path.join(self._sys, "fs/btrfs")
        for uuid in _names(root):
            members = _names(os.path.join(root, uuid, "devices"))
            if self.name(devno) in members:
                return [_text(os.path.join(self._sys, "class/block", m, "dev")) for m in members]
        return []

    def _at(self, devno: str, *parts: str) -> str:
        return os.path.join(self._sys, "dev/block", devno, *parts)


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts in the text of ``/proc/self/mountinfo``; odd lines are left out."""
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if dash and len(fields) >= 5 and len(tail) >= 2:
            options = tail[2] if len(tail) > 2 else ""
            mounts.append(
                Mount(fields[2], _plain(fields[4]), tail[0], _plain(tail[1]), _plain(options))
            )
    return mounts


def sync_file_systems(points: list[str]) -> None:
    """Write out what is dirty on the file systems mounted at ``points``. May block for long.

    Raises:
        HostError: one of them could not be synced.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for point in points:
        try:
            fd = os.open(point, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # unmounted or hidden meanwhile; the suspend syncs it, only slower
        try:
            if libc.syncfs(fd) != 0:
                reason = os.strerror(ctypes.get_errno())
                raise HostError(
                    f"The file system at {point} could not be synced: {reason}.",
                    effect="No snapshot was taken.",
                    hint="See the kernel log; a file system that cannot write needs repair first.",
                )
        finally:
            os.close(fd)


def device_number(path: str) -> str:
    """Return the number of the block device node ``path``.

    Raises:
        OSError: nothing is there. ValueError: it is no block device.
    """
    rdev = os.stat(path)
    if not stat.S_ISBLK(rdev.st_mode):
        raise ValueError(f"{path} is no block device")
    return _number(rdev.st_rdev)


def _number(rdev: int) -> str:
    return f"{os.major(rdev)}:{os.minor(rdev)}"


def _rdev(path: str) -> int:
    try:
        facts = os.stat(path)
    except OSError:
        return -1
    return facts.st_rdev if stat.S_ISBLK(facts.st_mode) else -1


def _is_same_file(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""  # gone, or not shown to us
