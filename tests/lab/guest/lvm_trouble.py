"""Guest: what is refused and what is told; each case leaves the volume as it was."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from blocksnapd.cycle import cow_space
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.errors import BlocksnapError
from blocksnapd.units import Amount
from tests.lab.guest import kit, lvm_kit
from tests.lab.guest.lvm_kit import StallMeter, point

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from blocksnapd.cycle.lvm_source import LvmSource


async def told(event: str, work: Awaitable[object], **facts: object) -> None:
    """Tell the error that ``work`` ends with, and whether the host is as before."""
    try:
        await work
        error, message, whole = "", "", False
    except BlocksnapError as failure:
        error, message = type(failure).__name__, failure.message
        whole = bool(failure.effect and failure.hint)
    kit.tell(
        event, error=error, message=message, whole=whole, suspended=lvm_kit.is_suspended(), **facts
    )


async def refusals(lvm: Lvm, source: LvmSource) -> None:
    await told("no-space-pv", source.take(point(1)))
    on_origin = cow_space.CowSpace(str(kit.MOUNT / "cow"), "vg")
    await told("own-file", cow_space.create(lvm, on_origin), made=exists(on_origin.file))
    await told("own-device", cow_space.create(lvm, cow_space.CowSpace("/dev/vg/data", "vg")))
    await told("no-group", cow_space.create(lvm, cow_space.CowSpace("/mnt/cow", "nosuch")))
    write(f"{lvm_kit.SNAP_DISK}/mine", b"precious")
    mine = cow_space.CowSpace(f"{lvm_kit.SNAP_DISK}/mine", "vg")
    await told("foreign-file", cow_space.create(lvm, mine), content=read(mine.file))
    await told("no-volume", lvm_kit.make_source(lvm, volume="vg/nosuch").observe())
    await told("no-vg", lvm_kit.make_source(lvm, volume="nosuch/data").observe())
    full = lvm_kit.make_source(lvm, file=f"{lvm_kit.SNAP_DISK}/mine", reserve=1 << 50)
    lvm_kit.add_cow_disk("/dev/ubdc")
    await told("reserve", full.take(point(1)))


async def own_origin_through_a_loop(lvm: Lvm) -> None:
    """Let somebody else make what ``create`` refuses; taking a snapshot must refuse it, too."""
    loop = kit.attach_loop(kit.MOUNT / "cow", 400 * kit.MIB)
    kit.run("pvcreate", "-qqy", loop)
    kit.run("vgextend", "-qq", "vg", loop)
    source = lvm_kit.make_source(lvm, physical_volumes=(loop,))
    await told("own-loop", source.take(point(1)), findings=[f.code for f in await source.examine()])
    kit.run("vgreduce", "-qq", "vg", loop)
    kit.run("losetup", "-d", loop)


async def foreign_and_frozen(source: LvmSource) -> None:
    kit.make_snapshot("vg", "data", "theirs", 8 * kit.MIB, 4096, "/dev/ubdc")
    await told("foreign-snapshot", source.take(point(1)))
    await told("of-a-snapshot", lvm_kit.make_source(Lvm(), volume="vg/theirs").observe())
    kit.run("lvremove", "-qqy", "vg/theirs")
    kit.run("fsfreeze", "-f", str(kit.MOUNT))
    try:
        await told("frozen", source.take(point(1)))
    finally:
        kit.run("fsfreeze", "-u", str(kit.MOUNT))
    kit.tell("thawed", findings=[f.code for f in await source.examine()])


async def held_open(source: LvmSource) -> None:
    """Let somebody hold -cow open: our removal waits and gives up; another's half fails."""
    await source.take(point(2))
    name = f"bs_{point(2)}"
    holder = os.open(f"/dev/mapper/vg-{name}-cow", os.O_RDONLY)
    try:
        await told("cow-held", source.remove(point(2)), states=await states(source))
        kit.run("lvremove", "-qqy", f"vg/{name}", check=False)
        kit.tell("half-removed", states=await states(source), devices=lvm_kit.devices())
    finally:
        os.close(holder)
    done = await source.repair()
    kit.tell("cow-free", done=done, states=await states(source), devices=lvm_kit.devices())


async def overflow(source: LvmSource) -> None:
    """Fill a COW space that is too small; the volume itself goes on."""
    small = lvm_kit.make_source(Lvm(), size=Amount(size=8 * kit.MIB))
    await small.take(point(3))
    with StallMeter(kit.MOUNT / "meter") as meter:
        write(str(kit.MOUNT / "big"), os.urandom(kit.MIB) * 16)
        os.sync()
        writes = meter.writes(within_s=5)
    try:
        small.changes(point(3))
        error = ""
    except BlocksnapError as failure:
        error = type(failure).__name__
    kit.tell(
        "overflow",
        states=await states(source),
        use=small.cow_use(point(3)),
        error=error,
        writes=writes,
        findings=[f.code for f in await small.examine()],
        repaired=await small.repair(),
    )
    await small.remove(point(3))
    taken = await source.take(point(4))
    kit.tell("taken", suspend_s=taken.suspend_s, states=await states(source))


async def states(source: LvmSource) -> list[str]:
    return [s.state for s in (await source.observe()).snapshots]


def exists(path: str) -> bool:
    return Path(path).exists()


def read(path: str) -> str:
    return Path(path).read_text()


def write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


async def main() -> None:
    lvm_kit.make_origin()
    kit.make_fs("ext4", "/dev/ubdb", lvm_kit.SNAP_DISK)
    lvm = Lvm()
    source = lvm_kit.make_source(lvm)
    await refusals(lvm, source)
    await own_origin_through_a_loop(lvm)
    await foreign_and_frozen(source)
    await held_open(source)
    await overflow(source)


asyncio.run(main())
