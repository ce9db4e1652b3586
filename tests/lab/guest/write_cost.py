"""Guest: what a snapshot costs those who write to its origin, by chunk size; told per round.

Argument: how many rounds. Writes go past the page cache, one at a time: 4 KiB at random places,
the same places again, and 1 MiB after the other.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import time
from pathlib import Path

from tests.lab.guest import kit

SIZE, COW_SIZE = 1024 * kit.MIB, 1100 * kit.MIB
CHUNK_SIZES = [size * kit.KIB for size in (4, 8, 16, 32, 64, 128, 256, 512)]
RANDOM_WRITES, BLOCK = 800, 4 * kit.KIB
IN_ORDER_WRITES = 48
ORIGIN_DISK, COW_DISK = "ubda", "ubdb"


def timed_writes(path: str, offsets: list[int], size: int) -> float:
    """Write ``size`` bytes of noise at each of ``offsets``; return seconds."""
    with mmap.mmap(-1, size) as buffer:
        buffer.write(os.urandom(size))
        fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        try:
            begun = time.monotonic()
            for offset in offsets:
                os.pwrite(fd, buffer, offset)
            os.fsync(fd)
            return time.monotonic() - begun
        finally:
            os.close(fd)


def moved_bytes() -> int:
    """Return what was read of the origin's disk and written to the other one since the start."""
    read = int(Path(f"/sys/block/{ORIGIN_DISK}/stat").read_text().split()[2])
    written = int(Path(f"/sys/block/{COW_DISK}/stat").read_text().split()[6])
    return (read + written) * 512


def measure(path: str, chunk_size: int, seed: int) -> None:
    """Write to the origin, with a snapshot of these chunks (0: none), and tell."""
    if chunk_size:
        kit.make_snapshot("vg", "data", "snap", COW_SIZE, chunk_size, f"/dev/{COW_DISK}")
    blocks = random.Random(seed).sample(range(SIZE // 2 // BLOCK), RANDOM_WRITES)
    places = [block * BLOCK for block in blocks]
    moved = moved_bytes()
    first_s = timed_writes(path, places, BLOCK)
    moved = moved_bytes() - moved
    used = kit.snapshot_status("vg-snap")[0] * 512 if chunk_size else 0
    again_s = timed_writes(path, places, BLOCK)
    in_order = [SIZE // 2 + number * kit.MIB for number in range(IN_ORDER_WRITES)]
    in_order_s = timed_writes(path, in_order, kit.MIB)
    kit.tell(
        "cost", chunk_size=chunk_size, random_s=first_s, again_s=again_s, in_order_s=in_order_s,
        used=used / (RANDOM_WRITES * BLOCK), moved=moved / (RANDOM_WRITES * BLOCK),
    )  # fmt: skip
    if chunk_size:
        kit.run("lvremove", "-qqy", "vg/snap")


def main(rounds: int) -> None:
    for disk, size in ((ORIGIN_DISK, SIZE), (COW_DISK, COW_SIZE)):  # the host's files are sparse
        timed_writes(f"/dev/{disk}", list(range(0, size, kit.MIB)), kit.MIB)
    kit.make_vg("vg", f"/dev/{ORIGIN_DISK}", f"/dev/{COW_DISK}")
    path = kit.make_lv("vg", "data", SIZE, f"/dev/{ORIGIN_DISK}")
    for seed in range(rounds):
        for chunk_size in (0, *CHUNK_SIZES):
            measure(path, chunk_size, seed)


main(int(sys.argv[1]))
