"""Guest, booted twice: a boot without the COW space's file, and what makes it good again.

Arguments: "before" or "after".
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from blocksnapd.cycle import cow_space, doctor
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.errors import BlocksnapError
from tests.lab.guest import kit, lvm_kit
from tests.lab.guest.lvm_kit import point

if TYPE_CHECKING:
    from pathlib import Path

VOLUME = VolumeName.parse(lvm_kit.ORIGIN)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.sync()


async def before() -> None:
    lvm_kit.make_origin()
    kit.make_fs("ext4", "/dev/ubdb", lvm_kit.SNAP_DISK)
    lvm = Lvm()
    await cow_space.create(lvm, cow_space.CowSpace(lvm_kit.COW_FILE, "vg"))
    source = lvm_kit.make_source(lvm, file=lvm_kit.COW_FILE)
    await source.take(point(1))
    write(kit.MOUNT / "file", os.urandom(2 * kit.MIB))
    digest = kit.image_digest(f"/dev/mapper/vg-bs_{point(1)}")
    # Told last: the host ends the guest there, as a power cut does.
    kit.tell_and_wait_for_kill("cut", digest=digest, entries=source.changes(point(1)).entries)


async def after() -> None:
    lvm = Lvm()
    lvm_kit.SNAP_DISK.mkdir(parents=True, exist_ok=True)
    source = lvm_kit.make_source(lvm, file=lvm_kit.COW_FILE)
    # What a boot does that does not know better, and an administrator in despair.
    kit.run("vgchange", "-ay", "vg", check=False)
    kit.run("vgchange", "-ay", "--activationmode", "partial", "vg", check=False)
    kit.tell("bad-boot", devices=lvm_kit.devices())
    found = [f.code for f in await doctor.examine(lvm, VOLUME, file=lvm_kit.COW_FILE)]
    try:
        await source.observe()
        error = ""
    except BlocksnapError as failure:
        error = f"{type(failure).__name__}: {failure.message}"
    kit.run("mount", "/dev/ubdb", str(lvm_kit.SNAP_DISK))
    found_mounted = [f.code for f in await doctor.examine(lvm, VOLUME, file=lvm_kit.COW_FILE)]
    done = await doctor.repair(lvm, VOLUME, file=lvm_kit.COW_FILE)
    again = await doctor.repair(lvm, VOLUME, file=lvm_kit.COW_FILE)
    view = await source.observe()
    kit.tell(
        "repaired",
        found=found,
        found_mounted=found_mounted,
        error=error,
        done=done,
        again=again,
        states=[s.state for s in view.snapshots],
        digest=kit.image_digest(f"/dev/mapper/vg-bs_{point(1)}"),
        entries=source.changes(point(1)).entries,
    )
    kit.run("mount", "/dev/vg/data", str(kit.MOUNT))
    write(kit.MOUNT / "more", os.urandom(kit.MIB))
    await source.take(point(2))
    before_ = kit.chunk_digests(f"/dev/mapper/vg-bs_{point(1)}", 4096)
    after_ = kit.chunk_digests(f"/dev/mapper/vg-bs_{point(2)}", 4096)
    extents = source.changes(point(1)).extents
    bounds = zip(extents.starts.tolist(), extents.ends.tolist(), strict=True)
    listed = {c for start, end in bounds for c in range(start // 4096, end // 4096)}
    changed = kit.changed_chunks(before_, after_)
    kit.tell("tracked", changed=len(changed), missing=sorted(changed - listed)[:10])


asyncio.run(before() if sys.argv[1] == "before" else after())
