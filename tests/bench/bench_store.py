"""How fast the repository writes and reads, beside ``zstd`` on the same file in the same run.

    python -m tests.bench.bench_store [MiB]

Prints seconds and ratios. The data is synthetic: compressible text-like blocks, about 2.4 : 1.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blocksnapd.blocks import hash_blocks, nonzero_mask, state_add, state_sum
from blocksnapd.model import PointFacts
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 4096
READ = 4 << 20


class Cost(NamedTuple):
    """Seconds on the clock, and of CPU."""

    wall_s: float
    cpu_s: float


def make_image(path: str, size: int) -> None:
    """Write blocks of words drawn from a vocabulary, with stretches of noise."""
    rng = np.random.default_rng(7)
    words = rng.integers(0, 256, (4096, 8), dtype=np.uint8)
    with open(path, "wb") as file:
        for at in range(0, size, READ):
            picks = (rng.zipf(1.3, READ // 8) % 4096).astype(np.intp)
            data = words[picks].reshape(-1)
            noise = rng.integers(0, READ - 65536, 8)
            for start in noise:
                data[start : start + 65536] = rng.integers(0, 256, 65536, dtype=np.uint8)
            file.write(data.tobytes()[: size - at])


def write_full(repository: Repository, path: str, size: int) -> None:
    """Read, hash and commit the image as a first full point."""
    sink = repository.begin("vol", "p" + "0" * 16, block_size=BLOCK, base=None)
    total = 0
    buffer = bytearray(READ)
    with open(path, "rb", buffering=0) as file:
        at = 0
        while count := file.readinto(buffer):
            view = memoryview(buffer)[:count]
            mask = nonzero_mask(view, BLOCK)
            assert mask.all()
            hashes = hash_blocks(view, BLOCK, repository.hash_key)
            blocks = np.arange(at // BLOCK, (at + count) // BLOCK, dtype=np.uint64)
            total = state_add(total, state_sum(blocks, hashes), 0)
            sink.add(blocks, hashes, view)
            at += count
    facts = PointFacts(
        "vol", "vol", "p" + "0" * 16, datetime.now(UTC), size, BLOCK, "full", "first", "scan",
        "crash", 0, size, total,
    )  # fmt: skip
    sink.commit(facts)


def read_full(repository: Repository, path: str) -> None:
    """Write the image out of the repository."""
    name = repository.outlines("vol")[0].name
    image = repository.open_image(name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(fd, image.size)
    for blocks, data in image.pieces():
        cuts = [0, *(np.flatnonzero(np.diff(blocks) != 1) + 1).tolist(), len(blocks)]
        for low, high in itertools.pairwise(cuts):
            os.pwrite(fd, data[low * BLOCK : high * BLOCK], int(blocks[low]) * BLOCK)
    os.close(fd)


def timed(*argv: str) -> Cost:
    """Run a command; return what it cost."""
    return cost(resource.RUSAGE_CHILDREN, lambda: subprocess.run(argv, check=True))


def cost(who: int, work: Callable[[], object]) -> Cost:
    """Return seconds on the clock and of CPU; the second is fair on a busy machine."""
    before, start = resource.getrusage(who), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, resource.getrusage(who)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, used)


def tell(what: str, theirs: Cost, ours: Cost) -> None:
    """Print both and their ratios."""
    print(
        f"{what:22s} {theirs.wall_s:6.2f} s ({theirs.cpu_s:5.2f} CPU)"
        f"   ours {ours.wall_s:6.2f} s ({ours.cpu_s:5.2f} CPU)"
        f"   x{ours.wall_s / theirs.wall_s:.2f} (x{ours.cpu_s / theirs.cpu_s:.2f} CPU)"
    )


def main() -> None:
    """Run and print."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 512) << 20
    with tempfile.TemporaryDirectory() as directory:
        image, packed, out = (os.path.join(directory, n) for n in ("image", "image.zst", "out"))
        make_image(image, size)
        report = init_repository(f"{directory}/repo", f"{directory}/keys")
        repository = Repository.open(f"{directory}/repo", restore_key=report.restore_key)
        zstd = timed("zstd", "-q", "-1", "-T2", image, "-o", packed)
        ours = cost(resource.RUSAGE_SELF, lambda: write_full(repository, image, size))
        stored = sum(p.stored_bytes for p in repository.points("vol"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        ratio = size / os.path.getsize(packed), size / stored
        tell("write  zstd -1 -T2", zstd, ours)
        print(f"ratio        zstd {ratio[0]:.2f}   ours {ratio[1]:.2f}   peak {peak} MiB")
        zstd = timed("zstd", "-q", "-d", packed, "-o", out)
        os.unlink(out)
        ours = cost(resource.RUSAGE_SELF, lambda: read_full(repository, out))
        tell("restore  zstd -d", zstd, ours)
        subprocess.run(["cmp", image, out], check=True)
        print("restored image: equal")


if __name__ == "__main__":
    main()
