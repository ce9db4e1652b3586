"""Change source ``lvm``: classic LVM snapshots, whose COW devices list and hold what changed. Edge.

    take       syncfs → lvcreate under the guard → is it whole? → fsync of the origin
    changes    the exception table of the base, read after the next snapshot exists: a superset
    saved      the base's old content, in the order the kernel wrote it
    remove     nobody holds it open → lvremove under the guard → is it gone?

Snapshots are found by their tags, never by a list of our own: after a crash the host itself says
what exists. The parser of COW devices is handed in.

Rules of this file: everything that suspends runs under the guard; a snapshot counts only when it
is active and its device-mapper status is a number; every descriptor on a COW device is closed
before the call that opened it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from blocksnapd.cycle import doctor, lvm_text, volume_repair
from blocksnapd.cycle.block_device import Topology, sync_file_systems
from blocksnapd.cycle.cow_place import check_place
from blocksnapd.cycle.cow_sizing import Room, cow_size_max, growth
from blocksnapd.cycle.cow_space import check_room, disk_room
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.dm_stack import snapshot_numbers
from blocksnapd.cycle.last_report import LastReport
from blocksnapd.cycle.lvm_text import VolumeName, dm_name, snapshot_name
from blocksnapd.cycle.snapshot_content import MergeChunks, SnapshotContent
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    HostError,
    LvmError,
    RefusedError,
    VolumeError,
)
from blocksnapd.model import Changes, HostView, SavedBatch, SeenSnapshot, Taken
from blocksnapd.runtime import durable
from blocksnapd.units import Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.cycle.lvm import Guarded, Lvm
    from blocksnapd.cycle.lvm_text import GroupReport, LogicalVolume
    from blocksnapd.ports import BlockReader, CowReader

_T = TypeVar("_T")

RELEASE_S_MAX = 10.0
_HALF, _NOTHING = Amount(share=0.5), Amount()
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class CowPlace:
    """Where COW space comes from, and how much of it.

    ``physical_volumes`` are PV names or ``@tag``. ``file`` is the sparse file under it, empty for
    a real disk; ``reserve`` is what must stay free on the file's disk. ``size`` of None means the
    largest useful one: such a snapshot cannot overflow. A smaller one grows by ``grow_by`` (of
    itself) up to ``size_max`` (None: the largest useful one); ``pv_reserve`` of the physical
    volumes stays free. Shares of ``size`` and ``size_max`` are of the origin.
    """

    chunk_size: int = 4096
    physical_volumes: tuple[str, ...] = (f"@{lvm_text.COW_PV_TAG}",)
    file: str = ""
    reserve: int = 0
    size: Amount | None = None
    grow_by: Amount = _HALF
    size_max: Amount | None = None
    pv_reserve: Amount = _NOTHING


class LvmSource:
    """A ``ChangeSource`` over one logical volume. Methods that are not async block."""

    driver = "lvm"
    tracks = True
    consistency = "crash"

    def __init__(
        self, volume: str, *, lvm: Lvm, place: CowPlace, open_cow: Callable[[str], CowReader],
        merge_chunks: MergeChunks, topology: Topology | None = None,
    ) -> None:  # fmt: skip
        """Name the volume; nothing is looked at yet.

        Raises:
            UsageError: ``volume`` is not ``vg/lv``.
        """
        self.volume = VolumeName.parse(volume)
        self._lvm, self._place = lvm, place
        self._topology = topology or Topology()
        self._content = SnapshotContent(self.volume, open_cow, merge_chunks)
        self._last = LastReport(lvm, self.volume)

    async def observe(self, *, again: bool = False) -> HostView:
        """Look at the volume and at every snapshot of ours on it; ``again``: see last_report.py.

        A volume that somebody left suspended shows as a half-done snapshot without a point.

        Raises:
            VolumeError: it is missing, inactive, or not what this driver needs.
        """
        volumes = (await self._last.get(again=again)).volumes
        origin = self._origin(volumes)
        ours = lvm_text.snapshots_of(volumes, origin)
        return await asyncio.to_thread(self._view, origin, ours)

    async def repair(self) -> list[str]:
        """Repair every half-done state; see doctor.py."""
        async with self._lvm.lock(self.volume.vg):
            self._last.drop()
            return await doctor.repair(
                self._lvm, self.volume, file=self._place.file, activate=False,
                topology=self._topology,
            )  # fmt: skip

    async def take(self, point_id: str) -> Taken:
        """Take the snapshot for ``point_id``, after a sync of the file system.

        Raises:
            SpaceError: the VG, or the disk under the COW space's file, has no room.
            RefusedError: the place of the COW space, or a foreign snapshot, forbids it.
            LvmError, HostError, BusyError: the command failed; what it left was removed.
        """
        started = time.monotonic()
        async with self._lvm.lock(self.volume.vg):
            group = await self._last.get(again=True)
            origin = self._origin(group.volumes)
            await asyncio.to_thread(self._refuse, group, origin)
            await asyncio.to_thread(self._sync)
            try:
                suspended_s, at = await self._create(group, origin, point_id)
            except BlocksnapError:
                self._last.drop()
                with contextlib.suppress(BlocksnapError):  # the first error is the one to tell
                    await volume_repair.repair(self._lvm, self.volume)
                    await self._remove(point_id)  # it may be whole, and yet nobody's
                raise
        return Taken(
            point_id=point_id, time=datetime.fromtimestamp(at, UTC), suspend_s=suspended_s,
            duration_s=time.monotonic() - started,
        )  # fmt: skip

    def open_snapshot(self, point_id: str) -> BlockReader:
        """Open the content of the volume at the instant of ``point_id``."""
        return self._content.open_snapshot(point_id)

    def changes(self, base_id: str) -> Changes:
        """Return what may have changed since the snapshot of ``base_id``."""
        return self._content.changes(base_id)

    def saved(self, base_id: str, *, batch_size: int) -> Iterator[SavedBatch]:
        """Yield the old content of every chunk that ``changes`` listed."""
        return self._content.saved(base_id, batch_size=batch_size)

    def check_valid(self, point_ids: tuple[str, ...]) -> None:
        """Make sure that these snapshots were whole up to now, and the origin's disk flushed.

        A suspend drains what was written but flushes no disk's own cache. The base goes after the
        commit: a write from before the new snapshot that a power cut took would be in no table.
        """
        self._flush_origin()
        self._content.check_valid(point_ids)

    async def remove(self, point_id: str) -> None:
        """Remove the snapshot of ``point_id`` and give its space back; none there is success.

        Raises:
            BusyError: somebody else holds it open; nothing was changed.
            LvmError, HostError: it could not be removed.
        """
        self._content.close(point_id)
        async with self._lvm.lock(self.volume.vg):
            await self._remove(point_id)

    def let_go(self, snapshot_id: str) -> None:
        """Close whatever is held open of a snapshot, so that it can be removed."""
        self._content.close(snapshot_id)

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        """Return (used, size) in bytes by ioctl; None when the snapshot is not whole or gone."""
        return self._content.cow_use(point_id)

    def is_given_up(self, point_id: str) -> bool:
        """Return whether the kernel gave the snapshot up, so that it tracks no more; by ioctl."""
        return self._content.is_given_up(point_id)

    async def grow(self, point_id: str, rate: float) -> int:
        """Make a snapshot's COW device larger, within its limits; return by how many bytes.

        ``rate`` is what it fills by, in bytes a second. Holds writers as a snapshot does.

        Raises:
            LvmError, HostError, SpaceError: it could not be done; the snapshot is as it was.
        """
        name = snapshot_name(point_id)
        async with self._lvm.lock(self.volume.vg):
            group = await self._last.get(again=False)
            found = next((v for v in group.volumes if v.name == name and not v.invalid), None)
            if found is None:
                return 0
            room = await asyncio.to_thread(self._room, group)
            by = growth(found.size, self._place.grow_by.of(found.size), rate, room)
            if by:
                words = ("--size", f"+{by}b", "--autobackup", "n", f"{self.volume.vg}/{name}")
                places = self._place.physical_volumes
                argv = lvm_text.pv_argv("lvextend", *words, *places, udev=self._lvm.udev)
                await self._guarded(argv, name)
        return by

    def _room(self, group: GroupReport) -> Room:
        """Return what growth has to keep to; of a sparse file also what its disk has left."""
        origin, places = self._origin(group.volumes), self._place.physical_volumes
        pvs = [
            p for p in group.physical_volumes
            if not p.missing and (p.name in places or any(f"@{tag}" in places for tag in p.tags))
        ]  # fmt: skip
        free, reserve = sum(p.free for p in pvs), self._place.pv_reserve
        if self._place.file:
            disk = disk_room(self._place.file)
            free = min(free, max(0, disk.free - self._place.reserve))
        useful = cow_size_max(origin.size, self._place.chunk_size)
        limit = self._place.size_max
        return Room(
            largest=min(useful, limit.of(origin.size)) if limit else useful, free=free,
            reserve=reserve.of(sum(p.size for p in pvs)), extent=origin.extent_size,
        )  # fmt: skip

    async def examine(self) -> list[doctor.Finding]:
        """Tell what is not as it should be; changes nothing."""
        return await doctor.examine(
            self._lvm, self.volume, file=self._place.file, topology=self._topology
        )

    def _origin(self, volumes: list[LogicalVolume]) -> LogicalVolume:
        """Return the origin's row, or raise why it cannot be one."""
        origin = next((v for v in volumes if v.name == self.volume.lv), None)
        if origin is None:
            raise VolumeError(
                f"There is no logical volume {self.volume.lv!r} in {self.volume.vg!r}.",
                effect="It is not protected until this is corrected.",
                hint="Compare the name in the configuration with 'lvs'.",
            )
        refusal = lvm_text.unsuitable(origin)
        if refusal:
            raise VolumeError(
                f"{self.volume} {refusal}; a classic snapshot of it is not possible.",
                effect="It is not protected.",
                hint="Use the driver 'scan', which works with anything.",
            )
        if origin.devno is None:
            raise VolumeError(
                f"{self.volume} is not active.",
                effect="It cannot be read or written by anybody, so nothing can be lost.",
                hint=f"Activate it: 'vgchange -ay {self.volume.vg}'. When that is refused because a"
                " physical volume is missing, run 'blocksnapctl doctor --fix' first.",
            )
        return origin

    def _refuse(self, group: GroupReport, origin: LogicalVolume) -> None:
        """Raise whatever forbids one more snapshot."""
        foreign = lvm_text.foreign_snapshots(group.volumes, origin)
        ours = lvm_text.snapshots_of(group.volumes, origin)
        if foreign and not ours:
            names = ", ".join(f"{v.vg}/{v.name}" for v in foreign)
            raise RefusedError(
                f"{self.volume} already has a snapshot of somebody else: {names}.",
                effect="A second one would make every first write to a block slower again, so"
                " protection was not started.",
                hint=f"Remove it ('lvremove {names.split(',')[0]}') or ask whoever made it.",
            )
        check_place(
            self._topology, self.volume.vg, origin.vg_uuid, group.physical_volumes,
            self._place.physical_volumes,
        )  # fmt: skip
        if self._place.file:
            check_room(self._place.file, self._place.reserve)

    async def _create(
        self, group: GroupReport, origin: LogicalVolume, point_id: str
    ) -> tuple[float, float]:
        """Run lvcreate; return (suspended seconds, instant) once the snapshot is known whole."""
        name = snapshot_name(point_id)
        useful = cow_size_max(origin.size, self._place.chunk_size)
        size = min(useful, self._place.size.of(origin.size)) if self._place.size else useful
        argv = lvm_text.create_argv(
            self.volume, volume_uuid=origin.uuid, point_id=point_id,
            chunk_size=self._place.chunk_size, size=size,
            places=self._place.physical_volumes, udev=self._lvm.udev,
        )  # fmt: skip
        guarded = await self._guarded(argv, name, stay=True)
        tags = lvm_text.snapshot_tags(origin.uuid, point_id)
        made = await self._last.made(group, name, tags)
        view = await asyncio.to_thread(self._view, origin, [made] if made else [])
        if made is None or view.snapshots[0].state != "good" or made.size < size:
            raise LvmError(
                f"lvcreate ended well, but {self.volume.vg}/{name} is no whole snapshot"
                f" ({made.attr + f', {made.size} bytes' if made else 'absent'}).",
                effect="It was removed; the volume is not affected.",
                hint="See the kernel log.",
            )
        return guarded.suspended_s, guarded.suspended_at

    def _view(self, origin: LogicalVolume, ours: list[LogicalVolume]) -> HostView:
        with Control() as control:
            seen = [
                lvm_text.seen(v, snapshot_numbers(control.status(self._dm(v.name)))) for v in ours
            ]
            info = control.info(self.volume.dm)
        if info is not None and info.suspended:
            seen.append(SeenSnapshot(name=self.volume.lv, point_id="", state="half"))
        return HostView(origin.uuid, origin.size, tuple(seen))

    def _sync(self) -> None:
        with Control() as control:
            info = control.info(self.volume.dm)
        if info is not None:
            sync_file_systems(self._topology.mount_points(info.devno))

    def _flush_origin(self) -> None:
        path = self._path(self.volume.lv)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                durable.sync_file(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise HostError(
                f"The disk under {path} could not be flushed: {error.strerror}.",
                effect="No point was made from the new snapshot.",
                hint="See the kernel log for that disk.",
            ) from error

    async def _remove(self, point_id: str) -> None:
        """Remove a snapshot and whatever its removal leaves; the group's lock is held."""
        name = snapshot_name(point_id)
        group = await self._last.get(again=True)
        if any(v.name == name for v in group.volumes):
            await self._await_release(name)
            argv = lvm_text.remove_argv(self.volume.vg, name, udev=self._lvm.udev)
            await self._guarded(argv, name)
            self._last.note_removed(group, name)
        if await asyncio.to_thread(self._devices_of, name):
            self._last.drop()
            await volume_repair.repair(self._lvm, self.volume)

    async def _guarded(self, argv: list[str], name: str, *, stay: bool = False) -> Guarded:
        """Run what changes the volume's snapshot ``name``, which makes the last report void."""
        self._last.drop()
        names = (self._dm(name),)
        return await self._lvm.guarded(argv, origin=self.volume.dm, names=names, stay=stay)

    async def _await_release(self, name: str) -> None:
        """Wait until only the snapshot itself holds its COW device, and nobody the snapshot.

        lvremove would take the snapshot away from above an open COW device and then fail.
        """
        deadline = time.monotonic() + RELEASE_S_MAX
        while holder := await asyncio.to_thread(self._held, name):
            if time.monotonic() > deadline:
                who = await asyncio.to_thread(self._topology.holders, holder[1])
                raise BusyError(
                    f"The device {holder[0]} is held open by {', '.join(who) or 'somebody'}.",
                    effect="The snapshot stays, and takes room, until it can be removed.",
                    hint="Close it there; the removal is tried again by itself.",
                )
            await asyncio.sleep(_LOOK_S)

    def _held(self, name: str) -> tuple[str, str] | None:
        """Return name and number of a device of the snapshot that somebody has open."""
        with Control() as control:
            top, cow = control.info(self._dm(name)), control.info(f"{self._dm(name)}-cow")
            if top is not None and top.open_count > 0:
                return top.name, top.devno
            used_by_top = 1 if top is not None and top.live else 0
            if cow is not None and cow.open_count > used_by_top:
                return cow.name, cow.devno
        return None

    def _devices_of(self, name: str) -> list[str]:
        with Control() as control:
            every = control.names()
        return [n for n in every if n == self._dm(name) or n.startswith(self._dm(name) + "-")]

    def _dm(self, name: str) -> str:
        return dm_name(self.volume.vg, name)

    def _path(self, name: str) -> str:
        return f"/dev/mapper/{self._dm(name)}"
