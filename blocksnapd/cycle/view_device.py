"""A volume as it was, shown by the kernel: a dm snapshot over a snapshot of its own. Edge.

    /dev/mapper/blocksnap-view-VG-LV-POINT     what was, of this point
        COW file on a loop device               only what differs, see parse/cow_writer.py
        VG/bsview_POINT                         a read-only LVM snapshot, kept for the view

It stands on a snapshot of its own, not on the origin. On the live origin every write would have to
be copied out to the COW file too, so it would have to be loaded while the origin is suspended, in
a stack that lvm2 builds anew with every cycle and knows nothing of it. Nor on the snapshot that
tracks: the next cycle removes it. This one costs what a snapshot costs, a copy of each block that
is overwritten as long as the view lasts; lvm2 knows it, brings it back after a boot, and nothing
of the origin's is ever suspended but by lvcreate and lvremove under the guard.

``end`` takes away whatever of it there is, so it also clears what a crash or a boot left.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from blocksnapd.cycle import lvm_text, volume_repair
from blocksnapd.cycle.block_device import Topology, sync_file_systems
from blocksnapd.cycle.cow_sizing import cow_size_max
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.errors import BusyError, RefusedError, SpaceError, VolumeError
from blocksnapd.runtime import durable
from blocksnapd.units import MIB, SECTOR_SIZE, format_size

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import GroupReport, LogicalVolume, VolumeName

PREFIX: Final = "blocksnap-view-"
TAG: Final = "blocksnap_view"
CHUNK_SIZE: Final = 4096  # of the snapshot it stands on
ROOM_MIN: Final = 64 * MIB
_KEPT: Final = "The volume was not changed."


def device_name(volume: VolumeName, point_id: str) -> str:
    """Return the device-mapper name of the view of a point."""
    return f"{PREFIX}{volume.dm}-{point_id}"


def point_of(volume: VolumeName, name: str) -> str:
    """Return whose view of ``volume`` a device, or a COW file, of this name is; empty: of none."""
    prefix = device_name(volume, "")
    point_id = name.removeprefix(prefix).removesuffix(".cow")
    # A volume called vg/x-y has a name that begins like one of vg/x.
    return point_id if name.startswith(prefix) and "-" not in point_id else ""


def cow_file(volume: VolumeName, point_id: str, directory: str) -> str:
    """Return where the view's COW file is."""
    return os.path.join(directory, f"{device_name(volume, point_id)}.cow")


def base_name(point_id: str) -> str:
    """Return the name of the snapshot that the view stands on."""
    lvm_text.snapshot_name(point_id)  # refuses what cannot be part of a name
    return f"{lvm_text.VIEW_PREFIX}{point_id}"


async def take_base(lvm: Lvm, volume: VolumeName, point_id: str) -> tuple[str, list[str]]:
    """Take the snapshot that the view of ``point_id`` is to stand on.

    Returns:
        Its path, and what the operator should read.

    Raises:
        RefusedError: there is one already. SpaceError: the COW space has no room.
        VolumeError: no snapshot of the volume is possible. LvmError, HostError: it failed.
    """
    async with lvm.lock(volume.vg):
        group = await lvm.group(volume.vg)
        origin = next((v for v in group.volumes if v.name == volume.lv), None)
        if origin is None or origin.devno is None or lvm_text.unsuitable(origin):
            raise VolumeError(f"No snapshot of {volume} can be taken now.", effect=_KEPT)
        name = base_name(point_id)
        if any(v.name == name for v in group.volumes):
            raise RefusedError(
                f"There is a view of {point_id} already.", effect=_KEPT,
                hint=f"Look: ls /dev/mapper/{PREFIX}*; end it: blocksnapctl view --end {volume}",
            )  # fmt: skip
        size, notes = _size(group, origin)
        argv = [
            "lvcreate", "--snapshot", "--permission", "r", "--chunksize", f"{CHUNK_SIZE}b",
            "--size", f"{size}b", "--name", name, "--addtag", TAG, "--autobackup", "n", "-qq",
            "--config", lvm_text.configuration(udev=lvm.udev), str(volume),
            f"@{lvm_text.COW_PV_TAG}",
        ]  # fmt: skip
        dm = lvm_text.dm_name(volume.vg, name)
        await asyncio.to_thread(_sync, origin.devno)
        await lvm.guarded(argv, origin=volume.dm, names=(dm,))
    return f"/dev/mapper/{dm}", notes


async def show(
    lvm: Lvm, volume: VolumeName, point_id: str, *, base: str, cow: str, size: int,
    chunk_size: int, writable: bool,
) -> str:  # fmt: skip
    """Let the kernel show ``cow`` over ``base``; return the path of the device.

    Args:
        lvm: starts the commands.
        volume: whose view it is.
        point_id: the point it shows.
        base: the device it stands on.
        cow: the finished COW file.
        size: bytes of the view.
        chunk_size: bytes per chunk of ``cow``.
        writable: whether what is written to the view goes to ``cow``.

    Raises:
        HostError, LvmError: a command failed; ``end`` clears away what there is.
    """
    only_read = [] if writable else ["--read-only"]
    attach = ["losetup", "--find", "--show", *only_read, cow]
    loop = (await lvm.command(attach)).stdout.strip()
    name = device_name(volume, point_id)
    table = f"0 {size // SECTOR_SIZE} snapshot {base} {loop} P {chunk_size // SECTOR_SIZE}"
    only_read = [] if writable else ["--readonly"]
    await lvm.command(["dmsetup", "create", name, *only_read, "--table", table])
    return f"/dev/mapper/{name}"


async def end(lvm: Lvm, volume: VolumeName, directory: str, point_id: str = "") -> list[str]:
    """End the views of ``volume``, or the one of ``point_id``; return what was done.

    Args:
        lvm: lvm2 on this host.
        volume: whose views.
        directory: where their COW files are.
        point_id: only this point's.

    Raises:
        BusyError: somebody uses one: it stays whole. LvmError, HostError: call again to go on.
    """
    done = await asyncio.to_thread(_remove_devices, volume, point_id)
    for path in await asyncio.to_thread(_cow_files, volume, directory, point_id):
        for loop in await asyncio.to_thread(_loops, path):
            await lvm.command(["losetup", "--detach", loop])
        await asyncio.to_thread(durable.remove, path)
        done.append(f"Removed {path}.")
    async with lvm.lock(volume.vg):
        for found in await lvm.volumes(volume.vg):
            mine = found.name.startswith(base_name(point_id) if point_id else lvm_text.VIEW_PREFIX)
            if mine and found.origin == volume.lv and TAG in found.tags:
                argv = lvm_text.remove_argv(volume.vg, found.name, udev=lvm.udev)
                dm = lvm_text.dm_name(volume.vg, found.name)
                await lvm.guarded(argv, origin=volume.dm, names=(dm,))
                done.append(f"Removed the snapshot {volume.vg}/{found.name}.")
        if done:
            done += await volume_repair.repair(lvm, volume)
    return done


def _sync(devno: tuple[int, int]) -> None:
    # What is written now is not written while the volume is suspended.
    sync_file_systems(Topology().mount_points("{}:{}".format(*devno)))


def _cow_files(volume: VolumeName, directory: str, point_id: str) -> list[str]:
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if name.endswith(".cow") and (found := point_of(volume, name)) and point_id in ("", found)
    ]


def _loops(path: str) -> list[str]:
    topology = Topology()
    return [f"/dev/{topology.name(devno)}" for devno in topology.loops_on(path)]


def _remove_devices(volume: VolumeName, point_id: str) -> list[str]:
    done = []
    with Control() as control:
        for name in control.names():
            found = point_of(volume, name)
            if not found or point_id not in ("", found):
                continue
            info = control.info(name)
            if info is not None and info.open_count:
                who = ", ".join(Topology().holders(info.devno))
                raise BusyError(
                    f"The view /dev/mapper/{name} is in use: {who or 'mounted, or held open'}.",
                    effect="It stays as it is.", hint="Unmount it and close it; then again.",
                )  # fmt: skip
            control.remove(name)
            done.append(f"Ended the view /dev/mapper/{name}.")
    return done


def spare_room(group: GroupReport) -> int:
    """Return the bytes of a group's COW space that the next snapshot of no volume needs."""
    free = sum(p.free for p in group.physical_volumes if lvm_text.COW_PV_TAG in p.tags)
    others = [v for v in group.volumes if not v.origin and not lvm_text.unsuitable(v)]
    return free - sum(_useful(v) for v in others)


def _size(group: GroupReport, origin: LogicalVolume) -> tuple[int, list[str]]:
    """Return how large the snapshot is made: so that it cannot overflow, or what room there is.

    The next snapshot of each volume of the group, which its next cycle takes, must find room.
    """
    free = spare_room(group)
    if free >= _useful(origin):
        return _useful(origin), []
    free -= free % origin.extent_size
    if free < ROOM_MIN:
        raise SpaceError(
            f"The COW space of {origin.vg!r} has {format_size(max(0, free))} to spare, too little.",
            effect=_KEPT, hint="Make it larger, or export the point: blocksnapctl export POINT",
        )  # fmt: skip
    told = (
        f"The view lasts until {format_size(free)} of {origin.vg}/{origin.name} were overwritten."
    )
    return free, [told]


def _useful(origin: LogicalVolume) -> int:
    """Return the size of a snapshot that cannot overflow, in whole extents."""
    size, extent = cow_size_max(origin.size, CHUNK_SIZE), origin.extent_size
    return -(-size // extent) * extent
