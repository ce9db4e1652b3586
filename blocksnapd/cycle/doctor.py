"""The host around one protected volume: what endangers it, what is not whole, and the repair. Edge.

    origin suspended                    resumed, before anything else
    COW space's file not attached       attached to a loop device
    half-done snapshots, orphans        removed (volume_repair.py)
    volume inactive                     activated, once its COW space is back
    a point merged into the volume      cleared away, so that snapshots can be taken again
    target 'snapshot' not loaded        modprobe dm_snapshot
    COW space on its own origin         told: only a person can move it
    file as COW space of what boots     told
    mount that a boot would wait for    told
    left of restores, views, merges     told: only a person knows what is under way

Source: device-mapper and lvm2 as in volume_repair.py; systemd.mount(5) and fstab(5) for ``nofail``.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from blocksnapd.cycle import cow_place, cow_space, leftovers, lvm_text, merging, volume_repair
from blocksnapd.cycle.block_device import Topology, device_number
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.volume_repair import Finding
from blocksnapd.errors import BlocksnapError, RefusedError

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import GroupReport, PhysicalVolume, VolumeName

__all__ = ["Finding", "examine", "repair"]

FSTAB = "/etc/fstab"
_MODPROBE_S_MAX = 30.0


async def examine(
    lvm: Lvm, volume: VolumeName, *, file: str = "", topology: Topology | None = None
) -> list[Finding]:
    """Tell everything that is not as it should be; changes nothing.

    Args:
        lvm: lvm2 on this host.
        volume: the protected volume.
        file: the file of its COW space, if it has one.
        topology: the block devices; this host's if not given.

    Raises:
        VolumeError: the volume group does not exist. LvmError, DeviceMapperError: no answer.
    """
    topology = topology or Topology()
    found = await asyncio.to_thread(_missing_target)
    found += await asyncio.to_thread(_not_attached, topology, file) if file else []
    group = await lvm.group(volume.vg)
    found += await asyncio.to_thread(_hazards, topology, volume, group)
    found += leftovers.examine(volume, group.volumes)
    return found + await volume_repair.examine(lvm, volume)


async def repair(
    lvm: Lvm, volume: VolumeName, *, file: str = "", activate: bool = True,
    topology: Topology | None = None,
) -> list[str]:  # fmt: skip
    """Repair what can be repaired; return what was done, in sentences. Twice equals once.

    Args:
        lvm: lvm2 on this host.
        volume: the protected volume.
        file: the file of its COW space, if it has one.
        activate: activate the volume if it is not; done in any case when its COW space had to
            be attached first.
        topology: the block devices; this host's if not given.

    Raises:
        DeviceMapperError: the origin is still suspended. SpaceError: the file is not there.
        LvmError, BusyError: something of ours cannot be removed yet.
    """
    done = await volume_repair.resume(lvm, volume)  # our own programs may wait for this volume
    if await asyncio.to_thread(_missing_target):
        await lvm.command(["modprobe", "dm_snapshot"], timeout_s=_MODPROBE_S_MAX)
        done.append("Loaded the kernel module dm_snapshot.")
    attached: list[str] = []
    if file:
        attached = await cow_space.attach_file(lvm, file, topology=topology)
    done += attached + await volume_repair.repair(lvm, volume)
    if (activate or attached) and (await volume_repair.look(lvm, volume)).inactive:
        await lvm.command(lvm_text.pv_argv("lvchange", "-ay", str(volume), udev=lvm.udev))
        done.append(f"Activated {volume}.")
        done += await volume_repair.repair(lvm, volume)  # only now its snapshots show their state
    return done + await merging.clear_merged(lvm, volume)


def fstab_waits(text: str, names: set[str]) -> list[str]:
    """Return the mount points in an fstab's ``text`` that a boot insists on, of devices ``names``.

    Args:
        text: the file's content.
        names: paths of the devices in question, every spelling.
    """
    points = []
    for line in text.splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) < 4 or fields[0] not in names:
            continue
        if not {"nofail", "noauto"} & set(fields[3].split(",")):
            points.append(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1]))
    return points


def _missing_target() -> list[Finding]:
    with Control() as control:
        if "snapshot" in control.targets():
            return []
    return [
        Finding(
            "MODULE", "The kernel has not loaded the device-mapper target 'snapshot'.",
            "No snapshot can be taken or activated.", "modprobe dm_snapshot",
        )
    ]  # fmt: skip


def _not_attached(topology: Topology, file: str) -> list[Finding]:
    try:
        cow_space.disk_room(file)
    except BlocksnapError as error:
        return [Finding("COW-FILE", error.message, error.effect, error.hint, fixable=False)]
    if topology.loops_on(file):
        return []
    return [
        Finding(
            "NOT-ATTACHED", f"The COW space's file {file} is attached to no loop device.",
            "Its volume group misses a physical volume: no snapshot can be taken, and after a"
            " deactivation the volume could not be activated.", "Attach it.",
        )
    ]  # fmt: skip


def _hazards(topology: Topology, volume: VolumeName, group: GroupReport) -> list[Finding]:
    """Tell what could hang or not boot this host, of what already is set up."""
    volumes, pvs = group.volumes, group.physical_volumes
    if not volumes:
        return []
    vg_uuid = volumes[0].vg_uuid
    found = []
    try:
        cow_place.check_place(topology, volume.vg, vg_uuid, pvs, [pv.name for pv in pvs])
    except RefusedError as error:
        found.append(Finding("HAZARD", error.message, error.effect, error.hint, fixable=False))
    if any(_is_file_backed(topology, pv) for pv in pvs):
        names = {
            name
            for v in volumes
            for name in (f"/dev/{v.vg}/{v.name}", f"/dev/mapper/{lvm_text.dm_name(v.vg, v.name)}")
        }
        found += [_insisting(volume.vg, point) for point in fstab_waits(_read(FSTAB), names)]
    return found


def _insisting(vg: str, point: str) -> Finding:
    return Finding(
        "FSTAB", f"{FSTAB} insists on {point}; its volume group {vg!r} has a file as COW space.",
        "If that file's disk is missing at boot, the boot stops in the emergency shell.",
        f"Add 'nofail' to the line of {point}. blocksnap-cow@.service attaches the file at boot.",
        fixable=False,
    )  # fmt: skip


def _is_file_backed(topology: Topology, pv: PhysicalVolume) -> bool:
    try:
        below = topology.below(device_number(pv.name))
    except (OSError, ValueError):
        return False
    return any(topology.loop_file(devno) for devno in below)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # no fstab: nothing is mounted by it
