"""How fast a point is as a disk over NBD, beside ``qemu-nbd`` serving the raw image, in one run.

    python -m tests.bench.bench_export [MiB] [directory]

The same clients ask both: ``fio`` reads 4 KiB at random, one at a time and 16, ``nbdcopy`` reads
all in order. ``qemu-nbd`` hands out bytes of a file in the page cache; a point's bytes are
decrypted, decompressed and checked. Three rounds, the best of each counts. The first byte is from
opening the point to having it, with nothing of the repository in the page cache (where this
process may say so to the kernel). Processor time is the server's alone, for 256 KiB in order and
for one read at random: it tells more than the clock where others use the machine, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocksnapd.errors import NotFoundError
from blocksnapd.export.exports import Export
from blocksnapd.export.listening import listen_unix
from blocksnapd.export.server import Server
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.bench.bench_store import make_image, write_full

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUNDS = 3
RANDOM_S = 3


class OnePoint:
    """A ``Resolver`` with one point."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._outline = repository.outlines("vol")[0]

    async def resolve(self, name: str) -> Export:
        if name:
            raise NotFoundError("there is one export")
        found = self._outline
        return Export(
            found.point_id, found.size, found.block_size, "",
            lambda: self._repository.open_image(found.name),
        )  # fmt: skip

    async def names(self) -> Sequence[tuple[str, str]]:
        return []


@contextmanager
def ours(repository_path: str, key: str, path: str) -> Iterator[int]:
    """Serve the point in a process of its own; give its id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bench_export", "--serve", repository_path, key, path],
        stdin=subprocess.PIPE,
    )
    try:
        while not os.path.exists(path):
            time.sleep(0.01)
        yield process.pid
    finally:
        process.communicate()


def serve(repository_path: str, key: str, path: str) -> None:
    """Serve until standard input ends."""

    async def work() -> None:
        server = Server(OnePoint(Repository.open(repository_path, restore_key=key)))
        server.start(listen_unix(path))
        await asyncio.to_thread(sys.stdin.read)
        await server.stop()

    asyncio.run(work())
    os.unlink(path)


@contextmanager
def qemu(image: str, path: str) -> Iterator[int]:
    """Serve the raw image; give the id of the process."""
    process = subprocess.Popen(
        ["qemu-nbd", "-r", "-f", "raw", "-t", "-e", "16", "--aio=threads", "-k", path, image]
    )
    try:
        while not os.path.exists(path):
            time.sleep(0.01)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def random_reads(uri: str, depth: int) -> tuple[float, float]:
    """Return reads a second, and how many milliseconds the slowest but one percent took."""
    done = subprocess.run(
        ["fio", "--output-format=json", "--name=job", "--ioengine=nbd", f"--uri={uri}",
         "--rw=randread", "--bs=4k", f"--iodepth={depth}", "--time_based", f"--runtime={RANDOM_S}",
         "--norandommap"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    read = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]
    return read["iops"], read["clat_ns"]["percentile"]["99.000000"] / 1e6


def copy(uri: str, size: int) -> float:
    """Return bytes a second."""
    start = time.perf_counter()
    subprocess.run(["nbdcopy", uri, "null:"], check=True)
    return size / (time.perf_counter() - start)


def processor_s(pid: int) -> float:
    """Return the seconds of processor time that a process took so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(uri: str, size: int, pid: int) -> dict[str, float]:
    """Return each figure: larger is better but for milliseconds and microseconds."""
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        one, slow_one = random_reads(uri, 1)
        before = processor_s(pid)
        many, _ = random_reads(uri, 16)
        between = processor_s(pid)
        rate = copy(uri, size)
        rounds.append({
            "4 KiB at random, one": one, "4 KiB at random, 16": many,
            "in order, MB/s": rate / 1e6, "slowest 1 %, ms": slow_one,
            "us of processor, random": (between - before) / (many * RANDOM_S) * 1e6,
            "us of processor, 256 KiB": (processor_s(pid) - between) / (size >> 18) * 1e6,
        })  # fmt: skip
    least = ("slowest", "us of")
    return {
        name: (min if name.startswith(least) else max)(found[name] for found in rounds)
        for name in rounds[0]
    }


def first_byte(repository_path: str, key: str, directory: str, *, cold: bool) -> float:
    """Return seconds from connecting to the first block, in a server that just started."""
    path = os.path.join(directory, "first.sock")
    with ours(repository_path, key, path):
        if cold:
            _forget(repository_path)
        start = time.perf_counter()
        subprocess.run(
            ["qemu-io", "-r", "-f", "raw", "-c", "read 0 4096", f"nbd+unix:///?socket={path}"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - start


def _forget(folder: str) -> None:
    os.sync()
    for place, _, names in os.walk(folder):
        for name in names:
            fd = os.open(os.path.join(place, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def main() -> None:
    """Run and print."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 512) << 20
    where = sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(dir=where) as directory:
        image, repo, path = (os.path.join(directory, n) for n in ("image", "repo", "nbd.sock"))
        make_image(image, size)
        report = init_repository(repo, f"{directory}/keys")
        key = report.restore_key
        write_full(Repository.open(repo, restore_key=key), image, size)
        colds = min(first_byte(repo, key, directory, cold=True) for _ in range(ROUNDS))
        warm = min(first_byte(repo, key, directory, cold=False) for _ in range(ROUNDS))
        uri = f"nbd+unix:///?socket={path}"
        with ours(repo, key, path) as pid:
            point = measured(uri, size, pid)
        with qemu(image, path) as pid:
            raw = measured(uri, size, pid)
    print(f"first byte, the start of the client in it: cold {colds:.3f} s, warm {warm:.3f} s")
    for name, value in point.items():
        print(f"{name:24} {value:9.1f}   qemu-nbd {raw[name]:9.1f}   x{value / raw[name]:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5])
    else:
        main()
