"""What lvm2 said last of an origin's group, used again while the kernel shows the same. Edge.

A report takes a tenth of a second or more, an ioctl next to nothing. So for some seconds what was
reported holds, as long as the kernel shows the origin, and on it the very snapshots that the
report names, each whole. On any doubt lvm2 is asked, and always where a run begins: what only
lvm2 knows, a volume that is not active or a tag, is seen then.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from blocksnapd.cycle import lvm_text
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.dm_stack import find_stack, snapshot_numbers
from blocksnapd.units import SECTOR_SIZE

if TYPE_CHECKING:
    from blocksnapd.cycle.dm_ioctl import DeviceInfo
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import GroupReport, LogicalVolume, VolumeName

HOLDS_S_MAX: Final = 10.0
_ACTIVE_SNAPSHOT: Final = "sri-a-s---"
_ROLE: Final = ("public", "snapshot", "thicksnapshot")


class LastReport:
    """The last report of the group of ``volume``. One task at a time."""

    def __init__(self, lvm: Lvm, volume: VolumeName) -> None:
        self._lvm, self._volume = lvm, volume
        self._report: GroupReport | None = None
        self._asked_at = 0.0

    async def get(self, *, again: bool) -> GroupReport:
        """Return what there is; ``again``: what was reported before will do while it holds.

        Raises:
            VolumeError: there is no such group. LvmError and others: see lvm_errors.py.
        """
        report = self._report if again else None
        is_young = time.monotonic() - self._asked_at < HOLDS_S_MAX
        if report and is_young and await asyncio.to_thread(self._holds, report):
            return report
        self._report, self._asked_at = None, time.monotonic()  # none, too, if lvm2 fails
        self._report = report = await self._lvm.group(self._volume.vg)
        return report

    def drop(self) -> None:
        """Ask lvm2 the next time: the group is about to change."""
        self._report = None

    async def made(
        self, report: GroupReport, name: str, tags: tuple[str, ...]
    ) -> LogicalVolume | None:
        """Return the snapshot ``name``, which was made since ``report``; None: it is not there.

        The kernel tells of a whole one all that ``tags`` do not; of any other one lvm2 is asked.
        Raises as ``get``.
        """
        row = await asyncio.to_thread(self._shown_row, report, name, tags)
        if row is None:
            volumes = (await self.get(again=False)).volumes
            return next((volume for volume in volumes if volume.name == name), None)
        self._report = replace(report, volumes=[*report.volumes, row])
        return row

    def note_removed(self, report: GroupReport, name: str) -> None:
        """Take ``report`` for the last one, without the volume ``name`` that was removed since."""
        volumes = [volume for volume in report.volumes if volume.name != name]
        self._report = replace(report, volumes=volumes)

    def _shown_row(
        self, report: GroupReport, name: str, tags: tuple[str, ...]
    ) -> LogicalVolume | None:
        with Control() as control:
            return shown_row(control, self._volume, report, name, tags)

    def _holds(self, report: GroupReport) -> bool:
        with Control() as control:
            return is_shown(control, self._volume, report)


def is_shown(control: Control, volume: VolumeName, report: GroupReport) -> bool:
    """Return whether the kernel shows of ``volume`` what the report tells, all of it whole."""
    origin = next((v for v in report.volumes if v.name == volume.lv), None)
    if origin is None:
        return False
    ours = lvm_text.snapshots_of(report.volumes, origin)
    of_others = [v for v in report.volumes if v.origin == origin.name and v not in ours]
    wanted = {lvm_text.dm_name(v.vg, v.name): v for v in (origin, *ours, *of_others)}
    stack = find_stack(control, volume.dm)
    shown = {d.name: d for d in (stack.origin, *stack.snapshots) if d is not None}
    sectors = sum(target.length_sectors for target in control.table(volume.dm) or [])
    return (
        not stack.suspended
        and shown.keys() == wanted.keys()
        and all(_is_same(shown[name], wanted[name]) for name in wanted)
        and sectors * SECTOR_SIZE == origin.size
        and all(snapshot_numbers(control.status(d.name)) for d in stack.snapshots)
    )


def shown_row(
    control: Control, volume: VolumeName, report: GroupReport, name: str, tags: tuple[str, ...]
) -> LogicalVolume | None:
    """Return what lvm2 would report of the snapshot ``name`` of ``volume`` with these ``tags``.

    None unless the kernel shows it active and whole, in the group of ``report``.
    """
    origin = next(v for v in report.volumes if v.name == volume.lv)
    dm, group = lvm_text.dm_name(volume.vg, name), f"LVM-{origin.vg_uuid.replace('-', '')}"
    device = next((d for d in find_stack(control, volume.dm).snapshots if d.name == dm), None)
    numbers = snapshot_numbers(control.status(dm)) if device else None
    if device is None or numbers is None or not device.live or not device.uuid.startswith(group):
        return None
    return replace(
        origin, name=name, uuid=device.uuid.removeprefix(group), attr=_ACTIVE_SNAPSHOT,
        size=numbers[1], origin=origin.name, invalid=False, role=_ROLE, tags=tags,
        devno=(device.major, device.minor),
    )  # fmt: skip


def _is_same(device: DeviceInfo, volume: LogicalVolume) -> bool:
    uuid = f"LVM-{volume.vg_uuid}{volume.uuid}".replace("-", "")
    return device.uuid.replace("-", "") == uuid and (device.major, device.minor) == volume.devno
