"""Real images for the measurements: an XFS file system of real files, and a recorded cycle of it.

    before     2 GiB XFS with up to 1.2 GiB of this host's own files
    after      the same after files were copied, rewritten, appended to, updated and removed in it
    cow        the COW device of the snapshot that tracked this, as a real kernel left it

Neither root nor a mount is needed: mkfs.xfs fills the first image, a guest of the lab makes the
second. Both are made once per directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.lab.machine import GUEST_DIR, Machine

GIB = 1 << 30
IMAGE_SIZE = 2 * GIB
FILES_SIZE = 6 * GIB // 5
COW_SIZE = GIB
WRITTEN_MIB = 44  # with what the file system adds, about 64 MiB of blocks differ
SOURCES = ("/usr/bin", "/usr/share", "/usr/lib", sys.prefix)
_BLOCK, _INODE = 4096, 512  # of the file system: small files take more than their bytes
_FORBIDDEN = set(" \t\n:#$")  # what a prototype file cannot name


class Recording(NamedTuple):
    """Where the three files are."""

    before: str
    after: str
    cow: str


def make_xfs(path: str, *, size: int = IMAGE_SIZE, files_size: int = FILES_SIZE) -> None:
    """Make an XFS image of this host's files at ``path``, sparse."""
    prototype = f"{path}.files"
    Path(prototype).write_text("\n".join(_Prototype(files_size).lines()) + "\n")
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.xfs", "-q", "-d", "agcount=2", "-p", prototype, path], check=True)
    os.unlink(prototype)


def record(directory: str, *, written_mib: int = WRITTEN_MIB) -> Recording:
    """Return images and COW device in ``directory``; make them first if they are not there."""
    done = Recording(*(os.path.join(directory, name) for name in ("before", "after", "cow")))
    if os.path.exists(done.cow):
        return done
    if not os.path.exists(done.before):
        make_xfs(f"{done.before}.new")
        os.replace(f"{done.before}.new", done.before)
    folder = Path(directory, "machine")
    shutil.rmtree(folder, ignore_errors=True)
    machine = Machine(folder, [IMAGE_SIZE, COW_SIZE])
    try:
        _copy_sparse(done.before, str(machine.disks[0]))
        machine.run(GUEST_DIR / "record_cycle.py", str(written_mib), limit_s=600)
        os.replace(machine.disks[0], done.after)
        os.replace(machine.disks[1], done.cow)
    finally:
        machine.close()
        shutil.rmtree(folder, ignore_errors=True)
    return done


class _Prototype:
    """What mkfs.xfs puts into a new file system, up to ``budget`` bytes of files."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def lines(self) -> list[str]:
        """Return the prototype file."""
        found = ["/none", "0 0", "d--755 0 0"]
        for source in SOURCES:
            found += [f"{os.path.basename(source)} d--755 0 0", *self._walk(source), "$"]
        return [*found, "$"]

    def _walk(self, directory: str) -> list[str]:
        found: list[str] = []
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if self._left <= 0:
                    break
                if _FORBIDDEN & set(entry.name) or not os.access(entry.path, os.R_OK):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found += [f"{entry.name} d--755 0 0", *self._walk(entry.path), "$"]
                elif entry.is_file(follow_symlinks=False):
                    size = -(-entry.stat().st_size // _BLOCK) * _BLOCK + _INODE
                    if size > self._left:
                        continue
                    self._left -= size
                    found.append(f"{entry.name} ---644 0 0 {entry.path}")
        return found


def _copy_sparse(source: str, target: str) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
