"""Guest: rotates snapshots under load; is every chunk that changed in the exception table?

Arguments: the file system (xfs, ext4) or `raw`, the chunk size, seconds of load. The truth is the
content of two snapshots, S0 and S1, read in full through the kernel: where they differ, the origin
has changed between their instants. The table of S0 is read while the load goes on.
"""

import contextlib
import sys
import time

from blocksnapd.parse.cow_device import CowDevice
from tests.lab.guest import kit

ORIGIN_SIZE = 320 * kit.MIB
COW = "/dev/mapper/vg-s0-cow"


def main(kind: str, chunk_size: int, load_s: float) -> None:
    kit.make_vg("vg", "/dev/ubda")
    origin = kit.make_lv("vg", "root", ORIGIN_SIZE)
    pv = kit.add_cow_space("vg", "/dev/ubdb", 800 * kit.MIB, kit.MOUNT.parent / "snap")
    if kind == "raw":
        load = [kit.Writer(kit.scribble, origin, seed) for seed in (1, 2)]
    else:
        kit.make_fs(kind, origin, kit.MOUNT)
        load = [kit.Writer(kit.churn, kit.MOUNT, 1)]
    with contextlib.ExitStack() as running:
        for writer in load:
            running.enter_context(writer)
        kit.make_snapshot("vg", "root", "s0", 330 * kit.MIB, chunk_size, pv)
        time.sleep(load_s)
        kit.make_snapshot("vg", "root", "s1", 330 * kit.MIB, chunk_size, pv)
        with CowDevice(COW) as cow:
            table = cow.table(origin_size=ORIGIN_SIZE)
    listed = set(table.old.tolist())
    # Each digest stands for one chunk, so a chunk that straddles nothing else can hide nothing.
    before = kit.chunk_digests("/dev/vg/s0", chunk_size)
    after = kit.chunk_digests("/dev/vg/s1", chunk_size)
    changed = kit.changed_chunks(before, after)
    kit.tell(
        "compared",
        chunk_size=table.chunk_size,
        listed=len(listed),
        changed=len(changed),
        missing=sorted(changed - listed)[:20],
        kernel=kit.exception_count("vg-s0", chunk_size),
    )


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
