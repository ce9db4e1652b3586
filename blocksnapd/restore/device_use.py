"""Who uses a block device or file right now, from /proc and /sys. Edge.

The kernel's own answer is an exclusive open: it fails while the device is mounted, swapped to,
or part of another device. This module finds the name for that, and the users an exclusive open
does not see: loop devices on top, and programs that write to the device, such as a virtual
machine. Each answer is a part of a sentence: "mounted at /srv". Best effort: what these files
do not show (another container's processes) is not found.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def users(path: str) -> list[str]:
    """Return who uses the block device or regular file ``path``; empty when nobody is seen."""
    facts = os.stat(path)
    found = [*_swaps(facts), *_loops(path, facts)]
    if stat.S_ISBLK(facts.st_mode):
        for numbers in _with_partitions(_numbers(facts.st_rdev)):
            found += [*_mounts(numbers), *_holders(numbers)]
        found += _writers(facts.st_rdev)
    return found


def parse_mounts(mountinfo: str, numbers: str) -> list[str]:
    """Return where the device ``numbers`` ("8:1") is mounted, from the text of mountinfo."""
    fields = (line.split(" ") for line in mountinfo.splitlines())
    return [_unescape(field[4]) for field in fields if len(field) > 4 and field[2] == numbers]


def parse_swaps(swaps: str) -> list[str]:
    """Return the paths in the text of /proc/swaps."""
    return [_unescape(line.split()[0]) for line in swaps.splitlines()[1:] if line.strip()]


def _mounts(numbers: str) -> Iterator[str]:
    for place in parse_mounts(_text("/proc/self/mountinfo"), numbers):
        yield f"mounted at {place}"


def _swaps(facts: os.stat_result) -> Iterator[str]:
    for path in parse_swaps(_text("/proc/swaps")):
        if _is_same(path, facts):
            yield "holds swap space"


def _holders(numbers: str) -> Iterator[str]:
    for holder in _names(f"/sys/dev/block/{numbers}/holders"):
        name = _text(f"/sys/class/block/{holder}/dm/name").strip()
        yield f"part of {holder} ({name})" if name else f"part of {holder}"


def _loops(path: str, facts: os.stat_result) -> Iterator[str]:
    for name in _names("/sys/class/block"):
        backing = _text(f"/sys/class/block/{name}/loop/backing_file").strip()
        if backing and (backing == path or _is_same(backing, facts)):
            yield f"attached to /dev/{name}"


def _writers(rdev: int) -> Iterator[str]:
    """Find processes other than this one that hold the device open for writing."""
    for pid in _names("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        for fd in _names(f"/proc/{pid}/fd"):
            if _rdev(f"/proc/{pid}/fd/{fd}") == rdev and _may_write(pid, fd):
                yield f"open for writing by {_text(f'/proc/{pid}/comm').strip()} (process {pid})"
                break


def _may_write(pid: str, fd: str) -> bool:
    flags = re.search(r"^flags:\s*([0-7]+)", _text(f"/proc/{pid}/fdinfo/{fd}"), re.MULTILINE)
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _with_partitions(numbers: str) -> Iterator[str]:
    yield numbers
    base = f"/sys/dev/block/{numbers}"
    for name in _names(base):
        if os.path.exists(f"{base}/{name}/partition"):
            yield _text(f"{base}/{name}/dev").strip()


def _is_same(path: str, facts: os.stat_result) -> bool:
    try:
        other = os.stat(path)
    except OSError:
        return False
    if stat.S_ISBLK(facts.st_mode):
        return stat.S_ISBLK(other.st_mode) and other.st_rdev == facts.st_rdev
    return os.path.samestat(other, facts)


def _rdev(path: str) -> int:
    try:
        facts = os.stat(path)
    except OSError:
        return -1
    return facts.st_rdev if stat.S_ISBLK(facts.st_mode) else -1


def _numbers(rdev: int) -> str:
    return f"{os.major(rdev)}:{os.minor(rdev)}"


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""  # gone, or not shown to us: see the module
