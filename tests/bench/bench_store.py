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

import numpy as np

from blocksnapd.blocks import hash_blocks, nonzero_mask, state_add, state_sum
from blocksnapd.model import PointFacts
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository

BLOCK = 4096
READ = 4 << 20


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


def write_full(repository: Repository, path: str, size: int) -> float:
    """Read, hash and commit the image as a first full point; return seconds."""
    start = time.perf_counter()
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
    return time.perf_counter() - start


def read_full(repository: Repository, path: str) -> float:
    """Write the image out of the repository; return seconds."""
    start = time.perf_counter()
    name = repository.outlines("vol")[0].name
    image = repository.open_image(name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(fd, image.size)
    for blocks, data in image.pieces():
        cuts = [0, *(np.flatnonzero(np.diff(blocks) != 1) + 1).tolist(), len(blocks)]
        for low, high in itertools.pairwise(cuts):
            os.pwrite(fd, data[low * BLOCK : high * BLOCK], int(blocks[low]) * BLOCK)
    os.close(fd)
    return time.perf_counter() - start


def timed(*argv: str) -> float:
    """Run a command; return seconds."""
    start = time.perf_counter()
    subprocess.run(argv, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run and print."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 512) << 20
    with tempfile.TemporaryDirectory() as directory:
        image, packed, out = (os.path.join(directory, n) for n in ("image", "image.zst", "out"))
        make_image(image, size)
        report = init_repository(f"{directory}/repo", f"{directory}/keys")
        repository = Repository.open(f"{directory}/repo", restore_key=report.restore_key)
        zstd = timed("zstd", "-q", "-1", "-T2", image, "-o", packed)
        ours = write_full(repository, image, size)
        stored = sum(p.stored_bytes for p in repository.points("vol"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        ratio = size / os.path.getsize(packed), size / stored
        print(f"full write   zstd -1 -T2 {zstd:6.2f} s   ours {ours:6.2f} s   x{ours / zstd:.2f}")
        print(f"ratio        zstd {ratio[0]:.2f}   ours {ratio[1]:.2f}   peak {peak} MiB")
        zstd = timed("zstd", "-q", "-d", packed, "-o", out)
        os.unlink(out)
        ours = read_full(repository, out)
        print(f"full restore zstd -d     {zstd:6.2f} s   ours {ours:6.2f} s   x{ours / zstd:.2f}")
        subprocess.run(["cmp", image, out], check=True)
        print("restored image: equal")


if __name__ == "__main__":
    main()
