"""Guest: one volume, two targets; the second one's disk hangs while it gets its first copy.

    /dev/ubde   the second target's disk, frozen: whoever writes there hangs in the kernel

While it hangs, points go to the first one; then the COW devices overflow; then the disk thaws. All
the time somebody counts snapshots. At last every point of both is compared with what the volume
held at its time, which is written only between the points.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import World
from tests.lab.guest.daemon_kit import LOG, Daemon, ask, bring_loopback_up, type_in

SIZE, CHANGE = 208 * kit.MIB, 2 * kit.MIB
FAR = kit.MOUNT.parent / "far"
FREEZE, THAW = 0xC0045877, 0xC0045878  # FIFREEZE, FITHAW of linux/fs.h

MORE = """
[target.far]
url = "{far}/repository"
source_key = "{far}/keys/source.key"
"""


class Counter(threading.Thread):
    """Counts the snapshots of ours, again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.looks = 0

    def run(self) -> None:
        while True:
            self.most = max(self.most, len(crash_world.snapshots()))
            self.looks += 1
            time.sleep(0.1)


class Book:
    """What the volume held, and from when on."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, str]] = []

    def write(self, world: World, size: int, seed: int) -> None:
        """Change the beginning of the volume and note it."""
        world.write_much(size, seed=seed)
        fd = os.open(crash_world.ORIGIN, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with os.fdopen(fd, "rb") as file:
            self.entries.append((time.time(), hashlib.file_digest(file, "sha256").hexdigest()))

    def at(self, moment: float) -> str:
        """Return what it held at a time."""
        return [digest for when, digest in self.entries if when <= moment][-1]


def points(target: str) -> list[dict[str, Any]]:
    return [p for p in ask("/v1/points")["points"] if p["target"] == target]


def far() -> dict[str, Any]:
    return next(v for v in ask("/v1/status")["volumes"] if v["target"] == "far")


def switch(order: int) -> None:
    """Freeze or thaw the second target's disk."""
    fd = os.open(FAR, os.O_RDONLY)
    fcntl.ioctl(fd, order, 0)
    os.close(fd)


def to_near(name: str, **facts: object) -> None:
    """Make a point at the first target; tell how it ended, while the other one hangs."""
    began = time.monotonic()
    code, documents = type_in("run", crash_world.VOLUME, "--target", "vault", "--wait")
    run = documents[-1]
    kit.tell(
        "near", name=name, code=code, reason=run["reason"], error=run["error"],
        seconds=time.monotonic() - began, alive=len(crash_world.snapshots()),
        is_hanging=far()["active_run"] is not None, **facts,
    )  # fmt: skip


def overflow(world: World, book: Book) -> None:
    """Fill the disk under the COW devices, then write: the kernel gives the snapshots up."""
    room = os.statvfs(crash_world.SNAPSHOTS)
    ballast = crash_world.SNAPSHOTS / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - 8 * kit.MIB)
    book.write(world, 24 * kit.MIB, seed=90)
    kit.run("sync", "-f", str(crash_world.SNAPSHOTS))
    lines = [kit.run("dmsetup", "status", crash_world.PREFIX + i) for i in crash_world.snapshots()]
    states = [line.split()[3] for line in lines]
    ballast.unlink()
    to_near("overflow", states=states)


def compared(book: Book, where: str) -> list[dict[str, Any]]:
    """Compare every point of a repository with what the volume held."""

    def each() -> Any:
        repository = Repository.open(f"{where}/repository", restore_key=f"{where}/keys/restore.key")
        for volume_id in repository.volumes():
            for point in repository.points(volume_id):
                image, digest = repository.open_image(point), hashlib.sha256()
                buffer = memoryview(bytearray(kit.MIB))
                for offset in range(0, image.size, kit.MIB):
                    part = buffer[: min(kit.MIB, image.size - offset)]
                    image.read_into(offset, part)
                    digest.update(part)
                image.close()
                held = book.at(datetime.timestamp(point.facts.time))
                yield {"method": point.facts.method, "is_equal": digest.hexdigest() == held}

    return crash_world.in_process(each)


def main() -> None:
    bring_loopback_up()
    world, book, counter = World("raw", SIZE, 4096, reserve=0), Book(), Counter()
    world.make()
    kit.make_fs("ext4", "/dev/ubde", FAR)
    init_repository(f"{FAR}/repository", f"{FAR}/keys")
    path = Path(world.config_path)
    text = path.read_text().replace('targets = ["vault"]', 'targets = ["far", "vault"]')
    path.write_text(text + MORE.format(far=FAR))
    book.write(world, SIZE, seed=1)
    daemon = Daemon(world)
    counter.start()
    try:
        daemon.until(lambda: (far()["active_run"] or {}).get("done_bytes"), "the first bytes")
        switch(FREEZE)
        daemon.until(lambda: points("vault"), "the first point of the other")
        for number in range(4):
            book.write(world, CHANGE, seed=number + 2)
            to_near(f"hangs {number}")
        overflow(world, book)
        for number in range(2):
            book.write(world, CHANGE, seed=number + 10)
            to_near(f"after {number}")
        switch(THAW)
        daemon.until(lambda: not far()["active_run"], "the end of what hung")
        code, _ = type_in("run", crash_world.VOLUME, "--wait")
        kit.tell("thawed", code=code, alive=len(crash_world.snapshots()), most=counter.most,
                 looks=counter.looks)  # fmt: skip
        kit.tell("ended", status=daemon.stop()[0])
    except BaseException:
        sys.stderr.write(LOG.read_text()[-6000:])
        raise
    kit.tell("compared", near=compared(book, world.round), far=compared(book, str(FAR)))


main()
