"""Guest: lives with the XFS image on /dev/ubda for a while, tracked by a snapshot on /dev/ubdb.

The image is changed through a real mount, as file servers and databases do it, by about as many
MiB as the argument says. Afterwards the host has both disks: the image as it became, and the COW
device as the kernel wrote it.
"""

import os
import random
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.lab.guest import kit

CHUNK_SECTORS = 8
ORIGIN = "/dev/mapper/origin"


def track() -> None:
    """Put a persistent snapshot with chunks of 4 KiB under whatever is written from now on."""
    size = int(Path("/sys/class/block/ubda/size").read_text())
    kit.run("dmsetup", "create", "origin", "--table", f"0 {size} snapshot-origin /dev/ubda")
    table = f"0 {size} snapshot /dev/ubda /dev/ubdb P {CHUNK_SECTORS}"
    # The origin of a new snapshot is told of it when it is resumed.
    kit.run("dmsetup", "suspend", "origin")
    kit.run("dmsetup", "create", "s0", "--table", table)
    kit.run("dmsetup", "resume", "origin")


def untrack() -> None:
    """End both devices; the kernel writes the last of its table."""
    kit.run("dmsetup", "remove", "s0")
    kit.run("dmsetup", "remove", "origin")


class Life:
    """Changes the files below ``root``, a part of ``budget`` bytes in each way."""

    def __init__(self, root: Path, budget: int) -> None:
        self._root, self._budget = root, budget
        self._dice = random.Random(20)
        found = (Path(d, f) for d, _, files in os.walk(root) for f in sorted(files))
        self._files = [(path, path.stat().st_size) for path in found]
        self._dice.shuffle(self._files)

    def live(self) -> None:
        """Do all of it once."""
        share = self._budget // 8
        self._copy(share)
        self._rewrite(share)
        self._compress(share)
        self._append(2 * share)
        self._update_in_place(3 * share)
        self._delete_and_rename()

    def _take(self, budget: int, low: int, high: int) -> Iterator[Path]:
        """Yield files of ``low`` to ``high`` bytes, each once, up to ``budget`` bytes in all."""
        while budget > 0 and self._files:
            path, size = self._files.pop()
            if low <= size <= high:
                budget -= size
                yield path

    def _copy(self, budget: int) -> None:
        """Copy files unchanged, as a deployment or a backup on the same disk does."""
        (self._root / "copies").mkdir()
        for path in self._take(budget, 4 * kit.KIB, kit.MIB):
            shutil.copy(path, self._root / "copies" / path.name)

    def _rewrite(self, budget: int) -> None:
        """Replace files by longer ones, as an upgrade does: every byte moves."""
        for path in self._take(budget, 4 * kit.KIB, kit.MIB):
            new = path.with_name(f".{path.name}.new"[:250])
            new.write_bytes(b"# version 2\n" + path.read_bytes())
            new.rename(path)

    def _compress(self, budget: int) -> None:
        """Write content that cannot be compressed again."""
        (self._root / "packed").mkdir()
        for path in self._take(3 * budget, 16 * kit.KIB, kit.MIB):
            (self._root / "packed" / f"{path.name}.z").write_bytes(zlib.compress(path.read_bytes()))

    def _append(self, budget: int) -> None:
        """Let logs grow."""
        (self._root / "log").mkdir()
        words = [path.name for path, _ in self._files[:2000]]
        for number in range(8):
            with (self._root / "log" / f"{number}.log").open("a") as log:
                while log.tell() < budget // 8:
                    line = " ".join(self._dice.choices(words, k=6))
                    log.write(f"{self._dice.random():.9f} host daemon[{number}]: {line}\n")

    def _update_in_place(self, budget: int) -> None:
        """Overwrite pages of 8 KiB here and there in large files, as a database does."""
        large = [path for path, size in self._files if size > 2 * kit.MIB]
        for _ in range(budget // (8 * kit.KIB)):
            path = self._dice.choice(large)
            with path.open("r+b") as file:
                page = self._dice.randrange(path.stat().st_size // (8 * kit.KIB))
                file.seek(page * 8 * kit.KIB)
                data = bytearray(file.read(8 * kit.KIB))
                at = self._dice.randrange(7 * kit.KIB)
                data[at : at + 200] = self._dice.randbytes(200)
                file.seek(page * 8 * kit.KIB)
                file.write(data)

    def _delete_and_rename(self) -> None:
        for path in self._take(64 * kit.MIB, 0, kit.MIB):
            path.unlink()
        for number, path in enumerate(self._take(16 * kit.MIB, 0, kit.MIB)):
            path.rename(self._root / "copies" / f"renamed-{number}")


def main(budget: int) -> None:
    """Record one cycle."""
    track()
    kit.MOUNT.mkdir(parents=True, exist_ok=True)
    kit.run("mount", ORIGIN, str(kit.MOUNT))
    Life(kit.MOUNT, budget).live()
    kit.run("umount", str(kit.MOUNT))
    kit.tell("lived", chunks=kit.exception_count("s0", 512 * CHUNK_SECTORS))
    untrack()


main(int(sys.argv[1]) * kit.MIB)
