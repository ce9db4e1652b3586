"""Guest: COW devices of ours at the borders of their areas, shown by the kernel.

Tells for each chunk size and number of exceptions whether the kernel shows what was written.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np

from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_writer import CowWriter
from tests.lab.guest import kit

SIZE = 48 * kit.MIB
FILE = Path("/run/lab/tmp/cow")
CASES = [(4096, n) for n in (0, 1, 255, 256, 257, 512, 3000)] + [(65536, 0), (65536, 700)]


def shown(origin: str, content: bytes, chunk_size: int, count: int) -> tuple[str, str]:
    """Return the digests of what the kernel shows, and of what it should show."""
    dice = random.Random(count)
    chunks = sorted(dice.sample(range(SIZE // chunk_size), count))
    wanted, full = bytearray(content), []
    size = cow_format.bytes_needed(count, chunk_size)
    with CowWriter(str(FILE), chunk_size=chunk_size, size=size) as writer:
        starts = np.array(chunks, np.uint64)
        writer.begin(starts, np.ones(count, np.uint64))
        for chunk in chunks:
            data = dice.randbytes(chunk_size) if dice.random() < 0.8 else b""
            wanted[chunk * chunk_size : (chunk + 1) * chunk_size] = data or bytes(chunk_size)
            if data:
                full.append((chunk, data))
        dice.shuffle(full)
        for chunk, data in full:
            writer.write(np.array([chunk], np.uint64), memoryview(data))
        writer.finish()
    loop = kit.run("losetup", "--find", "--show", "--read-only", str(FILE)).strip()
    table = f"0 {SIZE // 512} snapshot {origin} {loop} P {chunk_size // 512}"
    kit.run("dmsetup", "create", "shown", "--readonly", "--table", table)
    found = kit.image_digest("/dev/mapper/shown")
    kit.run("dmsetup", "remove", "shown")
    kit.run("losetup", "--detach", loop)
    FILE.unlink()
    return found, hashlib.sha256(wanted).hexdigest()


def main() -> None:
    kit.make_vg("vg", "/dev/ubda")
    origin = kit.make_lv("vg", "origin", SIZE)
    content = random.Random(1).randbytes(SIZE)
    Path(origin).write_bytes(content)
    kit.run("sync")
    for chunk_size, count in CASES:
        found, wanted = shown(origin, content, chunk_size, count)
        kit.tell("shown", chunk_size=chunk_size, count=count, found=found, wanted=wanted)


main()
