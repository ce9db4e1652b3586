"""Guest: writes in steps and reads the exception table three ways after each step.

Each way sees the number of exceptions it believes in: `naive` reads the device as a file, `mapped`
through one mapping, `ours` as the program does. The kernel's own count comes from its status line.
"""

import mmap
import os
import struct

from blocksnapd.parse.cow_device import CowDevice
from tests.lab.guest import kit

CHUNK_SIZE = 4 * kit.KIB
ORIGIN_SIZE = 64 * kit.MIB
ENTRIES_PER_AREA = CHUNK_SIZE // 16
COW = "/dev/mapper/vg-s0-cow"


def count_entries(image: "mmap.mmap | bytes") -> int:
    """Count the entries up to the end mark, trusting every byte of ``image``."""
    count = 0
    for area in range(len(image) // CHUNK_SIZE):
        start = (1 + area * (ENTRIES_PER_AREA + 1)) * CHUNK_SIZE
        for at in range(start, start + CHUNK_SIZE, 16):
            if struct.unpack_from("<2Q", image, at)[1] == 0:
                return count
            count += 1
    raise RuntimeError("no end mark")


def main() -> None:
    kit.make_vg("vg", "/dev/ubda")
    origin = kit.make_lv("vg", "root", ORIGIN_SIZE)
    pv = kit.add_cow_space("vg", "/dev/ubdb", 100 * kit.MIB, kit.MOUNT)
    kit.make_snapshot("vg", "root", "s0", 70 * kit.MIB, CHUNK_SIZE, pv)
    mapping_fd = os.open(COW, os.O_RDONLY)
    mapping = mmap.mmap(mapping_fd, os.lseek(mapping_fd, 0, os.SEEK_END), prot=mmap.PROT_READ)
    for step in range(3):
        kit.write_chunks(origin, step * 1280, 1280, CHUNK_SIZE)
        with open(COW, "rb") as naive:
            naive_count = count_entries(naive.read(24 * kit.MIB))
        with CowDevice(COW) as cow:
            table = cow.table(origin_size=ORIGIN_SIZE)
        kit.tell(
            "step",
            kernel=kit.exception_count("vg-s0", CHUNK_SIZE),
            naive=naive_count,
            mapped=count_entries(mapping),
            ours=len(table.old),
            ours_right=sorted(table.old.tolist()) == list(range((step + 1) * 1280)),
        )


main()
