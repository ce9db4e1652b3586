"""Guest: lvcreate and lvremove are killed between suspend and resume; the guard lives.

Arguments: lvcreate | lvremove, "base" if another snapshot exists already, else "alone";
"each" to die before each ioctl, else "changing": before those that change a device.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from blocksnapd.cycle.lvm import Lvm
from blocksnapd.errors import BlocksnapError
from tests.lab.guest import kit, lvm_kit
from tests.lab.guest.lvm_kit import StallMeter, point

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm_source import LvmSource

LIMIT_S = 1.5
CHUNK_SIZE = 4096
BASE, NUMBERED, LAST = point(1), point(2), point(3)


async def number_ioctls(source: LvmSource, program: str) -> lvm_kit.Window:
    """Return where ``program`` suspends the origin, seen in one run that succeeds."""
    if program == "lvremove":
        await source.take(NUMBERED)
    lvm_kit.count_ioctls(program)
    await (source.take if program == "lvcreate" else source.remove)(NUMBERED)
    lvm_kit.let_live(program)
    await source.remove(NUMBERED)
    return lvm_kit.window()


async def die_once(source: LvmSource, program: str, number: int, meter: StallMeter) -> None:
    """Kill ``program`` before ioctl ``number``; tell what was seen, and how it was made good."""
    point_id = point(1000 + number)
    if program == "lvremove":
        await source.take(point_id)
    lvm_kit.let_die(program, number)
    meter.worst_s()
    begun, error = time.monotonic(), ""
    try:
        await (source.take if program == "lvcreate" else source.remove)(point_id)
    except BlocksnapError as failure:
        error = type(failure).__name__
    writable = meter.writes(within_s=LIMIT_S)
    lvm_kit.let_live(program)
    done = await source.repair()
    again = await source.repair()
    view = await source.observe()
    kit.tell(
        "died",
        number=number,
        error=error,
        writable=writable,
        stall_s=meter.worst_s(),
        repaired=done,
        repaired_again=again,
        left=sorted((s.point_id, s.state) for s in view.snapshots),
        devices=len(lvm_kit.devices()),
        seconds=time.monotonic() - begun,
    )
    await source.remove(point_id)


async def main(program: str, with_base: bool, every: bool) -> None:
    lvm_kit.make_origin()
    lvm_kit.add_cow_disk()
    source = lvm_kit.make_source(Lvm(suspend_s_max=LIMIT_S))
    if with_base:
        await source.take(BASE)
    quiet = len(lvm_kit.devices())
    window = await number_ioctls(source, program)
    kit.tell("window", suspend=window.suspend, resume=window.resume, devices=quiet)
    with StallMeter(kit.MOUNT / "meter") as meter:
        for number in window.numbers(every=every):
            await die_once(source, program, number, meter)
    taken = await source.take(LAST)
    findings = [f.code for f in await source.examine()]
    kit.tell("taken", suspend_s=taken.suspend_s, findings=findings)
    if with_base:
        compare(source)


def compare(source: LvmSource) -> None:
    """Tell whether the base tracked through everything that happened."""
    before = kit.chunk_digests(f"/dev/vg/bs_{BASE}", CHUNK_SIZE)
    after = kit.chunk_digests(f"/dev/vg/bs_{LAST}", CHUNK_SIZE)
    extents = source.changes(BASE).extents
    bounds = zip(extents.starts.tolist(), extents.ends.tolist(), strict=True)
    listed = {c for start, end in bounds for c in range(start // CHUNK_SIZE, end // CHUNK_SIZE)}
    changed = kit.changed_chunks(before, after)
    kit.tell("tracked", changed=len(changed), missing=sorted(changed - listed)[:10])


asyncio.run(main(sys.argv[1], sys.argv[2] == "base", sys.argv[3] == "each"))
