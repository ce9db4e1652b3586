"""Guest, two lives: `prepare` loads a tracked XFS until the kill, `check` looks at what is left.

Between them the machine lost its power in the middle of the load.
"""

import sys

from blocksnapd.parse.cow_device import CowDevice
from tests.lab.guest import kit

CHUNK_SIZE = 4 * kit.KIB
ORIGIN_SIZE = 320 * kit.MIB
SNAP = kit.MOUNT.parent / "snap"
ORIGIN, S0, COW = "/dev/vg/root", "/dev/vg/s0", "/dev/mapper/vg-s0-cow"


def prepare() -> None:
    kit.make_vg("vg", "/dev/ubda")
    kit.make_fs("xfs", kit.make_lv("vg", "root", ORIGIN_SIZE), kit.MOUNT)
    pv = kit.add_cow_space("vg", "/dev/ubdb", 400 * kit.MIB, SNAP)
    (kit.MOUNT / "before").write_text("was there before the snapshot")
    kit.make_snapshot("vg", "root", "s0", 330 * kit.MIB, CHUNK_SIZE, pv)
    kit.run("sync", "-f", str(SNAP))
    digest = kit.image_digest(S0)
    with kit.Writer(kit.churn, kit.MOUNT, 7):
        while kit.exception_count("vg-s0", CHUNK_SIZE) < 500:
            pass
        kit.tell_and_wait_for_kill("loaded", digest=digest)


def check() -> None:
    SNAP.mkdir()
    kit.run("mount", "/dev/ubdb", str(SNAP))
    kit.attach_loop(SNAP / "cow.img", 400 * kit.MIB)
    kit.run("vgchange", "-ay", "vg")
    with CowDevice(COW) as cow:
        listed = set(cow.table(origin_size=ORIGIN_SIZE).old.tolist())
    changed = kit.changed_chunks(
        kit.chunk_digests(S0, CHUNK_SIZE), kit.chunk_digests(ORIGIN, CHUNK_SIZE)
    )
    kit.run("mount", ORIGIN, str(kit.MOUNT))
    kit.tell(
        "checked",
        digest=kit.image_digest(S0),
        listed=len(listed),
        changed=len(changed),
        missing=sorted(changed - listed),
        before=(kit.MOUNT / "before").read_text(),
    )


{"prepare": prepare, "check": check}[sys.argv[1]]()
