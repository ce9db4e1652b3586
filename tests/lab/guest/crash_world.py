"""What the crash tests act on: a volume under load, its repository, references, and a check. Edge.

    /dev/ubda   volume group vg: the volume vg/data, raw or with a file system
    /dev/ubdb   the snapshot disk: the COW space's sparse file
    /dev/ubdc   the vault: repository, keys, the daemon's state
    /dev/ubdd   references: of every point, what dd read from its snapshot while it was there

A *round* is one repository with one state directory. The check is done by ``cmp``: the image of
each point, whole, against the reference that was taken without the product's code.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import mmap
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from blocksnapd.config import Config, load
from blocksnapd.cycle import cow_space
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.service.opening import as_cow_space
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.lab.guest import kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.model import RestorePoint

T = TypeVar("T")

VOLUME, ORIGIN, ORIGIN_DM = "vg/data", "/dev/vg/data", "vg-data"
PREFIX = "vg-bs_"
SNAPSHOTS = kit.MOUNT.parent / "snapshots"
VAULT = kit.MOUNT.parent / "vault"
REFERENCES = kit.MOUNT.parent / "references"

CONFIG = """\
schema = 1

[daemon]
state_dir = "{round}/state"

[control]
socket = "/run/lab/control.sock"

[metrics]
listen = ["127.0.0.1:10085"]

[target.vault]
url = "{round}/repository"
source_key = "{round}/keys/source.key"

[cow.space]
file = "{snapshots}/cow.img"
vg = "vg"
reserve = "{reserve} B"

[volume."vg/data"]
every = "{every}"
targets = ["vault"]
cow = {{ space = "space", chunk = "{chunk_size} B", freeze_max = "10s" }}
retry = {{ first = "1s", max = "2s" }}
"""


class World:
    """One volume with everything around it, in this guest.

    Args:
        kind: raw, xfs (needs 300 MiB) or ext4.
        size: bytes of the volume.
        chunk_size: bytes per chunk of its snapshots.
        every: how often the daemon runs a cycle by itself.
        reserve: bytes that must stay free on the snapshot disk.
    """

    def __init__(
        self, kind: str, size: int, chunk_size: int, *, every: str = "1h", reserve: int = 1 << 20
    ) -> None:
        self.kind, self.size, self.chunk_size = kind, size, chunk_size
        self.every, self.reserve = every, reserve
        self.number = 0

    @property
    def round(self) -> str:
        """The directory of the round."""
        return f"{VAULT}/round-{self.number}"

    @property
    def config(self) -> Config:
        """The configuration of the round, as the daemon reads it."""
        return load(self.config_path)

    @property
    def config_path(self) -> str:
        """The configuration file of the round."""
        return f"{self.round}/blocksnap.toml"

    def make(self) -> None:
        """Make it all, up to the first round."""
        kit.make_vg("vg", "/dev/ubda")
        kit.make_lv("vg", "data", self.size)
        if self.kind != "raw":
            kit.make_fs(self.kind, ORIGIN, kit.MOUNT)
        for disk, where in self._disks():
            kit.make_fs("ext4", disk, where)
        self.start_round()
        space = as_cow_space(self.config.cow["space"])
        asyncio.run(cow_space.create(Lvm(), space))
        os.sync()  # what an administrator prepared was prepared long ago

    def attach(self) -> list[str]:
        """Bring it back after a boot, by the program's doctor; return what that said."""
        self.number = 1
        for disk, where in self._disks():
            where.mkdir()
            kit.run("mount", disk, str(where))
        argv = [sys.executable, "-m", "blocksnapd", "doctor", "--fix", "--config", self.config_path]
        said = kit.run(*argv)
        if self.kind != "raw":
            kit.run("mount", ORIGIN, str(kit.MOUNT))
        return said.splitlines()

    def start_round(self) -> None:
        """Begin anew: no snapshot, an empty repository, no state."""
        for point_id in snapshots():
            kit.run("lvremove", "-qqy", f"vg/bs_{point_id}")
        self.number += 1
        os.makedirs(self.round)
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(
                CONFIG.format(
                    round=self.round, snapshots=SNAPSHOTS, chunk_size=self.chunk_size,
                    every=self.every, reserve=self.reserve,
                )
            )  # fmt: skip
        init_repository(f"{self.round}/repository", f"{self.round}/keys")

    def load(self, seed: int) -> kit.Writer:
        """Return a writer that keeps the volume changing."""
        if self.kind == "raw":
            return kit.Writer(trickle, ORIGIN, seed)
        return kit.Writer(humble_churn, seed)

    def write_much(self, size: int, seed: int) -> None:
        """Change ``size`` bytes at once, so that shipping takes several batches."""
        rng = random.Random(seed)
        if self.kind == "raw":
            path, flags = ORIGIN, os.O_WRONLY | os.O_DIRECT
        else:
            path, flags = f"{kit.MOUNT}/ballast", os.O_WRONLY | os.O_CREAT | os.O_DIRECT
        fd = os.open(path, flags)
        buffer = mmap.mmap(-1, kit.MIB)
        buffer.write(rng.randbytes(kit.MIB))
        for offset in range(0, size, kit.MIB):
            for page in range(0, kit.MIB, 4096):  # else equal pieces would be shipped but once
                buffer[page : page + 8] = rng.randbytes(8)
            os.pwrite(fd, buffer, offset)
        os.close(fd)

    def keep_references(self) -> list[str]:
        """Copy with dd each live snapshot that has no reference yet; return all live ones."""
        alive = snapshots()
        for point_id in alive:
            path = reference(point_id)
            if not os.path.exists(path):
                kit.run("dd", f"if=/dev/mapper/{PREFIX}{point_id}", f"of={path}", "bs=1M",
                        "iflag=direct", "conv=sparse,fsync")  # fmt: skip
        return alive

    def compare(self) -> list[dict[str, Any]]:
        """Compare every point of the round with its reference; oldest first, in a process apart."""
        return in_process(self._compare)

    def _compare(self) -> Iterator[dict[str, Any]]:
        repository = Repository.open(
            f"{self.round}/repository", restore_key=f"{self.round}/keys/restore.key"
        )
        for volume_id in repository.volumes():
            for point in repository.points(volume_id):
                yield {
                    "id": point.facts.point_id,
                    "method": point.facts.method,
                    "kind": point.facts.kind,
                    "reason": point.facts.reason,
                    "changed": point.facts.changed_bytes,
                    "shipped": point.shipped_bytes,
                    "mismatched": point.facts.proof.mismatched_blocks,
                    "checked": point.facts.proof.checked_blocks,
                    "compared": compare_point(repository, point),
                }

    def _disks(self) -> Iterator[tuple[str, Any]]:
        yield "/dev/ubdb", SNAPSHOTS
        yield "/dev/ubdc", VAULT
        yield "/dev/ubdd", REFERENCES


def compare_point(repository: Repository, point: RestorePoint) -> str:
    """Return what ``cmp`` says of a point's image and its reference: ``equal``, or where not."""
    path = reference(point.facts.point_id)
    if not os.path.exists(path):
        return "no reference"
    image = repository.open_image(point)
    buffer = memoryview(mmap.mmap(-1, kit.MIB))
    with subprocess.Popen(
        ["cmp", path, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, kit.MIB)
        try:
            for offset in range(0, image.size, kit.MIB):
                part = buffer[: min(kit.MIB, image.size - offset)]
                image.read_into(offset, part)
                process.stdin.write(part)
            process.stdin.close()
        except BrokenPipeError:
            pass  # cmp has seen enough
        said = process.stdout.read().decode().strip()
    image.close()
    return "equal" if process.returncode == 0 else said or f"cmp: {process.returncode}"


def reference(point_id: str) -> str:
    """Return the path of a point's reference."""
    return f"{REFERENCES}/{point_id}.img"


def devices() -> list[str]:
    """Return the names of all device-mapper devices, sorted, as dmsetup says."""
    lines = kit.run("dmsetup", "ls").splitlines()
    return sorted(line.split()[0] for line in lines if "\t" in line)


def snapshots() -> list[str]:
    """Return the point ids of all snapshots of ours that are active."""
    names = [n for n in devices() if n.startswith(PREFIX) and not n.endswith("-cow")]
    return [name.removeprefix(PREFIX) for name in names]


def devices_with(point_id: str) -> list[str]:
    """Return the devices there have to be when one snapshot exists, and nothing else."""
    top = PREFIX + point_id
    return sorted([ORIGIN_DM, f"{ORIGIN_DM}-real", top, f"{top}-cow"])


def volumes() -> list[str]:
    """Return the names of all logical volumes, as lvs says."""
    return kit.run("lvs", "--noheadings", "-o", "lv_name", "vg").split()


def in_process(body: Callable[[], Iterator[T]]) -> list[T]:
    """Return all that the generator ``body`` yields, run in a process of its own.

    Threads that it starts are gone afterwards, so that this process may fork again.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with os.fdopen(writing, "w", encoding="utf-8") as file:
                json.dump(list(body()), file)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as file:
        text = file.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise kit.CommandError("the process apart failed")
    found: list[T] = json.loads(text)
    return found


def trickle(device: str, seed: int) -> None:
    """Write random sectors, some of zeros, at random places of ``device``, a few at a time."""
    rng = random.Random(seed)
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
    end = os.lseek(fd, 0, os.SEEK_END)
    size_max = 32 * kit.KIB
    noise, zeros = mmap.mmap(-1, size_max), mmap.mmap(-1, size_max)
    noise.write(rng.randbytes(size_max))
    while True:
        size = 512 * rng.randint(1, size_max // 512)
        noise[:8] = rng.randbytes(8)
        buffer = zeros if rng.random() < 0.2 else noise
        os.pwrite(fd, memoryview(buffer)[:size], rng.randrange((end - size) // 512) * 512)
        time.sleep(0.01)


def humble_churn(seed: int) -> None:
    """Write files for ever, with what the others leave of the one processor."""
    os.nice(19)
    kit.churn(kit.MOUNT, seed)
