"""Room for COW devices: a sparse file on a disk of its own, as a physical volume. Edge.

    file on the snapshot disk → loop device with direct I/O → PV, tagged → volume group

The file is as large as the largest useful snapshots together, and takes what they really hold:
no snapshot on it can overflow before the disk under it is full, and that is watched. Removal
punches the room free again.

Every step looks first whether it is done, so that a set-up that was interrupted is just called
again. What could stop the host is refused before anything is changed: see cow_place.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.cycle import lvm_text
from blocksnapd.cycle.block_device import Topology, device_number
from blocksnapd.cycle.cow_place import refuse_boot_group, refuse_own_origin
from blocksnapd.cycle.cow_sizing import cow_size_max
from blocksnapd.errors import (
    CowReserveError,
    HostError,
    NotFoundError,
    RefusedError,
    SpaceError,
)
from blocksnapd.runtime import durable
from blocksnapd.units import MIB, format_size

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import PhysicalVolume, VolumeGroup

_PV_LABEL, _LABEL_SECTORS, _SECTOR = b"LABELONE", 4, 512
_PV_OVERHEAD = 4 * MIB  # label, metadata area and alignment, generously
_PV_SLACK_EXTENTS = 4
_LOOP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class CowSpace:
    """One COW space: ``size`` of None means enough for two full-size snapshots per origin."""

    file: str
    vg: str
    size: int | None = None
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """The disk under a COW space's file, in bytes; ``held`` is what the file itself takes."""

    free: int
    total: int
    held: int


def disk_room(file: str) -> Room:
    """Return the room on the disk under ``file``.

    Raises:
        SpaceError: the file or its disk is not there.
    """
    try:
        facts, disk = os.stat(file), os.statvfs(file)
    except OSError as error:
        raise SpaceError(
            f"The COW space's file {file} is not there: {error.strerror}.",
            effect="No snapshot can be taken.",
            hint="Mount its disk, then run 'blocksnapctl doctor --fix'.",
        ) from error
    return Room(
        free=disk.f_bavail * disk.f_frsize, total=disk.f_blocks * disk.f_frsize,
        held=facts.st_blocks * 512,
    )  # fmt: skip


def check_room(file: str, reserve: int) -> None:
    """Make sure that the disk under ``file`` has more than ``reserve`` bytes free.

    Raises:
        CowReserveError: it has not; a full disk would invalidate every snapshot on it.
    """
    room = disk_room(file)
    if room.free < reserve:
        raise CowReserveError(
            f"The disk under the COW space {file} has {format_size(room.free)} free, the reserve"
            f" is {format_size(reserve)}.",
            shortage=reserve - room.free,
            effect="No further snapshot is taken; the volume is not affected.",
            hint="Free room on that disk, or wait: the next committed point gives some back.",
        )


async def create(lvm: Lvm, space: CowSpace, *, topology: Topology | None = None) -> list[str]:
    """Set a COW space up; return what was done, in sentences (nothing: it was whole).

    Raises:
        RefusedError: it could stop the host, or the file is somebody else's.
        NotFoundError: no such volume group. SpaceError: the disk has no room.
        LvmError and others: a command failed; call again to go on from there.
    """
    topology = topology or Topology()
    group = await _group(lvm, space.vg)
    await asyncio.to_thread(_refuse_all, topology, space, group)
    size = space.size or await _size_for(lvm, group)
    done = await asyncio.to_thread(_make_file, space, size)
    device, attached = await _attach(lvm, topology, space.file, group)
    done += attached
    return done + await _join_group(lvm, space, device)


async def attach(lvm: Lvm, space: CowSpace, *, topology: Topology | None = None) -> list[str]:
    """Attach the file of an existing COW space to a loop device, as after a boot.

    Does not ask lvm2 first: its group may be incomplete until this is done.

    Raises:
        SpaceError: the file is not there.
    """
    return await attach_file(lvm, space.file, topology=topology)


async def attach_file(lvm: Lvm, file: str, *, topology: Topology | None = None) -> list[str]:
    """Attach ``file`` to a loop device unless it is; see ``attach``.

    Raises:
        SpaceError: the file is not there.
    """
    await asyncio.to_thread(disk_room, file)
    _, done = await _attach(lvm, topology or Topology(), file, None)
    return done


async def remove(lvm: Lvm, space: CowSpace, *, topology: Topology | None = None) -> list[str]:
    """Take a COW space out of its group and delete its file; return what was done.

    Raises:
        RefusedError: snapshots, or anything else, still lie on it.
        LvmError and others: a command failed; call again to go on from there.
    """
    topology = topology or Topology()
    done = []
    device = await asyncio.to_thread(_device_of, topology, space.file)
    pv = await _pv(lvm, device) if device else None
    if pv is not None and pv.used:
        raise RefusedError(
            f"The COW space {space.file} still holds {format_size(pv.used)} of volumes.",
            effect="Nothing was changed.",
            hint=f"Remove its snapshots first: 'lvs -a -o+devices {space.vg}' shows them.",
        )
    if pv is not None and pv.vg:
        await lvm.command(lvm_text.pv_argv("vgreduce", pv.vg, device, udev=lvm.udev))
        done.append(f"Took {device} out of the volume group {pv.vg}.")
    if pv is not None:
        await lvm.command(lvm_text.pv_argv("pvremove", device, udev=lvm.udev))
    if device:
        await lvm.command(["losetup", "--detach", device], timeout_s=_LOOP_S_MAX)
        done.append(f"Detached {space.file} from {device}.")
    if await asyncio.to_thread(os.path.lexists, space.file):
        await asyncio.to_thread(durable.remove, space.file)
        done.append(f"Deleted {space.file}.")
    return done


def _refuse_all(topology: Topology, space: CowSpace, group: VolumeGroup) -> None:
    directory = os.path.dirname(space.file)
    if not os.path.isdir(directory):
        raise SpaceError(
            f"The directory {directory} for the COW space does not exist.",
            effect="Nothing was changed.",
            hint="Mount the snapshot disk there first.",
        )
    refuse_own_origin(topology, space.vg, group.uuid, topology.below_file(space.file), space.file)
    refuse_boot_group(topology, space.vg, group.uuid)
    disk = os.statvfs(directory)
    if disk.f_bavail * disk.f_frsize < space.reserve:
        raise SpaceError(
            f"The disk under {directory} has {format_size(disk.f_bavail * disk.f_frsize)} free,"
            f" the reserve is {format_size(space.reserve)}.",
            effect="Nothing was changed.",
            hint="Use a larger disk, or a smaller reserve.",
        )


async def _group(lvm: Lvm, vg: str) -> VolumeGroup:
    found = next((g for g in await lvm.groups() if g.name == vg), None)
    if found is None:
        raise NotFoundError(
            f"There is no volume group {vg!r}.", hint="'vgs' lists those there are."
        )
    return found


async def _size_for(lvm: Lvm, group: VolumeGroup) -> int:
    """Return bytes for two full-size snapshots, the older and the newer, of every origin.

    And one more of the largest, for a view to stand on.
    """
    volumes = await lvm.volumes(group.name)
    origins = [v for v in volumes if not v.is_ours and not lvm_text.unsuitable(v)]
    extent = group.extent_size
    # The smallest chunks need the most exception areas.
    useful = [cow_size_max(v.size, lvm_text.CHUNK_SIZE_MIN) for v in origins]
    needed = [-(-size // extent) * extent for size in useful]
    return 2 * sum(needed) + max(needed, default=0) + _PV_OVERHEAD + _PV_SLACK_EXTENTS * extent


def _make_file(space: CowSpace, size: int) -> list[str]:
    """Create the sparse file, or take one that a set-up of ours left."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(space.file, flags | os.O_CREAT | os.O_EXCL, 0o600)
        is_new = True
    except FileExistsError:
        fd = _open_existing(space.file, flags)
        is_new = False
    try:
        facts = os.fstat(fd)
        if not is_new and facts.st_size:
            _refuse_strange(fd, space.file, facts)
            return []
        os.ftruncate(fd, size)
        durable.sync_file(fd)
        held = os.fstat(fd).st_blocks * 512
    except OSError as error:
        raise SpaceError(
            f"{space.file} cannot be made {format_size(size)} large: {error.strerror}.",
            effect="No COW space was made.",
            hint="Use a file system that knows sparse files of that size (XFS, ext4).",
        ) from error
    finally:
        os.close(fd)
    durable.sync_dir(os.path.dirname(space.file))
    done = [f"Made the sparse file {space.file}, {format_size(size)}."]
    if held > size // 2:
        done.append("Its file system keeps no holes: the file takes its whole size at once.")
    return done


def _open_existing(path: str, flags: int) -> int:
    try:
        return os.open(path, flags)
    except OSError as error:
        raise RefusedError(
            f"{path} exists and cannot be used: {error.strerror}.",
            effect="Nothing was changed.",
            hint="Choose another name for the COW space's file.",
        ) from error


def _refuse_strange(fd: int, path: str, facts: os.stat_result) -> None:
    """Let only a file pass that is all holes, or that begins like a physical volume."""
    is_pv = False
    if stat.S_ISREG(facts.st_mode):
        head = os.pread(fd, _LABEL_SECTORS * _SECTOR, 0)
        is_pv = any(head[n * _SECTOR :].startswith(_PV_LABEL) for n in range(_LABEL_SECTORS))
    if not is_pv and (facts.st_blocks or not stat.S_ISREG(facts.st_mode)):
        raise RefusedError(
            f"{path} exists and is not a COW space.",
            effect="It was not touched: what it holds would be lost.",
            hint="Choose another name for the COW space's file, or move that file away.",
        )


async def _attach(
    lvm: Lvm, topology: Topology, file: str, group: VolumeGroup | None
) -> tuple[str, list[str]]:
    """Attach the file to a loop device unless it is; return the device's path and what was done."""
    device = await asyncio.to_thread(_device_of, topology, file)
    if device:
        return device, []
    sector = await _sector_size(lvm, topology, group) if group else _SECTOR
    argv = ["losetup", "--find", "--show", "--nooverlap", "--direct-io=on"]
    argv += ["--sector-size", str(sector)] if sector != _SECTOR else []
    finished = await lvm.command([*argv, file], timeout_s=_LOOP_S_MAX)
    device = finished.stdout.strip()
    done = [f"Attached {file} to {device}."]
    with contextlib.suppress(OSError, ValueError):
        if not topology.loop_is_direct(device_number(device)):
            done.append(
                f"{device} works through the page cache: its file system knows no O_DIRECT."
            )
    return device, done


async def _sector_size(lvm: Lvm, topology: Topology, group: VolumeGroup) -> int:
    """Return the group's logical block size: lvm2 does not mix them."""
    sizes = {_SECTOR}
    for pv in await lvm.physical_volumes():
        if pv.vg == group.name and not pv.missing:
            with contextlib.suppress(OSError, ValueError):
                sizes.add(topology.logical_block_size(device_number(pv.name)))
    return max(sizes)


def _device_of(topology: Topology, file: str) -> str:
    """Return the path of the loop device on ``file``, or nothing.

    Raises:
        HostError: there are several, so that lvm2 sees the same volume twice.
    """
    loops = topology.loops_on(file)
    if len(loops) > 1:
        names = ", ".join(f"/dev/{topology.name(devno)}" for devno in loops)
        raise HostError(
            f"{file} is attached to several loop devices: {names}.",
            effect="lvm2 sees the same physical volume twice and may refuse to work.",
            hint="Detach all but the one that 'pvs' shows in use ('losetup --detach').",
        )
    return f"/dev/{topology.name(loops[0])}" if loops else ""


async def _join_group(lvm: Lvm, space: CowSpace, device: str) -> list[str]:
    """Make the device a tagged physical volume of the group, from wherever it is now."""
    done = []
    pv = await _pv(lvm, device)
    if pv is None:
        await lvm.command(lvm_text.pv_argv("pvcreate", device, udev=lvm.udev))
        pv = await _pv(lvm, device)
    if pv is not None and pv.vg not in ("", space.vg):
        raise RefusedError(
            f"{space.file} belongs to the volume group {pv.vg!r}, not to {space.vg!r}.",
            effect="Nothing was changed.",
            hint="Choose another file for this group's COW space.",
        )
    if pv is None or not pv.vg:
        await lvm.command(lvm_text.pv_argv("vgextend", space.vg, device, udev=lvm.udev))
        done.append(f"Added {device} to the volume group {space.vg}.")
    if pv is None or lvm_text.COW_PV_TAG not in pv.tags:
        words = ("--addtag", lvm_text.COW_PV_TAG, device)
        await lvm.command(lvm_text.pv_argv("pvchange", *words, udev=lvm.udev))
        done.append(f"Tagged {device} as COW space.")
    return done


async def _pv(lvm: Lvm, device: str) -> PhysicalVolume | None:
    """Return the physical volume on ``device``, None if it is not one yet."""
    pvs = await lvm.physical_volumes()
    return next((p for p in pvs if p.name == device and p.uuid), None)
