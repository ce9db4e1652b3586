"""A logical volume that is made for a restore, and not whole before that is done. Edge.

It never lies on COW space: that is a sparse file, and what is restored may outgrow its disk. As
long as it is not whole it carries ``TAG_UNFINISHED``, by which the next restore knows it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blocksnapd.cycle.lvm_text import COW_PV_TAG, VolumeName, configuration
from blocksnapd.errors import RefusedError, SpaceError
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import LogicalVolume, PhysicalVolume, VolumeGroup

TAG_UNFINISHED: Final = "blocksnap.unfinished"
_UNTOUCHED: Final = "Nothing was made or written."


@dataclass(frozen=True, slots=True)
class NewVolume:
    """A volume that can be made.

    Attributes:
        name: what it will be called.
        size: bytes, whole extents.
        places: the physical volumes it may lie on.
        is_there: a restore that was killed made it.
    """

    name: VolumeName
    size: int
    places: tuple[str, ...]
    is_there: bool

    @property
    def path(self) -> str:
        """Its device."""
        return f"/dev/{self.name}"


async def plan(lvm: Lvm, text: str, size: int) -> NewVolume:
    """Return the volume of at least ``size`` bytes that ``text``, VG/LV, names. Changes nothing.

    Raises:
        UsageError: ``text`` names no volume. VolumeError: there is no such group.
        RefusedError: a volume of that name exists. SpaceError: there is no room for it.
        LvmError and others: see lvm_errors.py.
    """
    name = VolumeName.parse(text)
    volumes = await lvm.volumes(name.vg)
    group = next((g for g in await lvm.groups() if g.name == name.vg), None)
    if group is None:
        raise RefusedError(
            f"there is no volume group {name.vg}", effect=_UNTOUCHED, hint="See: vgs"
        )
    extents_size = -(-max(1, size) // group.extent_size) * group.extent_size
    old = next((v for v in volumes if v.name == name.lv), None)
    if old is not None:
        _refuse_existing(old, name, extents_size)
        return NewVolume(name, old.size, (), is_there=True)
    _refuse_missing(group)
    places = [pv for pv in await lvm.physical_volumes() if _may_hold(pv, name.vg)]
    free = sum(pv.free // group.extent_size * group.extent_size for pv in places)
    if free < extents_size:
        raise SpaceError(
            f"{name} needs {format_size(extents_size)}, {name.vg} has {format_size(free)} free "
            "besides COW space",
            effect=_UNTOUCHED,
            hint="Make room or add a disk (vgextend), or restore to a file or another group.",
        )
    return NewVolume(name, extents_size, tuple(pv.name for pv in places), is_there=False)


async def make(lvm: Lvm, new: NewVolume) -> None:
    """Make what ``plan`` returned; one that is there becomes active.

    Raises:
        LvmError, SpaceError and others: see lvm_errors.py.
    """
    settings = configuration(udev=lvm.udev)
    activate = ["lvchange", "-qq", "--config", settings, "-ay", str(new.name)]
    await lvm.command(activate if new.is_there else _create_argv(new, udev=lvm.udev))


async def finish(lvm: Lvm, new: NewVolume) -> None:
    """Mark it whole."""
    settings = configuration(udev=lvm.udev)
    words = ["lvchange", "-qq", "--config", settings, "--deltag", TAG_UNFINISHED, str(new.name)]
    await lvm.command(words)


async def remove(lvm: Lvm, new: NewVolume) -> None:
    """Remove it, whatever it holds."""
    settings = configuration(udev=lvm.udev)
    await lvm.command(["lvremove", "-y", "-qq", "--config", settings, str(new.name)])


def _create_argv(new: NewVolume, *, udev: bool) -> list[str]:
    return [
        "lvcreate", "-y", "--type", "linear", "--zero", "y", "--wipesignatures", "y",
        "--size", f"{new.size}b", "--name", new.name.lv, "--addtag", TAG_UNFINISHED,
        "--autobackup", "y", "-qq", "--config", configuration(udev=udev), new.name.vg, *new.places,
    ]  # fmt: skip


def _may_hold(pv: PhysicalVolume, vg: str) -> bool:
    return pv.vg == vg and pv.free > 0 and not pv.missing and COW_PV_TAG not in pv.tags


def _refuse_existing(old: LogicalVolume, name: VolumeName, size: int) -> None:
    if TAG_UNFINISHED not in old.tags:
        raise RefusedError(
            f"{name} exists",
            effect=_UNTOUCHED,
            hint=f"Name a volume that does not; to write over this one: --to /dev/{name}",
        )
    if old.size < size:
        raise RefusedError(
            f"{name} was made for a restore that was killed, of another point: it has "
            f"{format_size(old.size)}, {format_size(size)} are needed",
            effect=_UNTOUCHED,
            hint=f"Remove it with: lvremove {name}, or name another.",
        )


def _refuse_missing(group: VolumeGroup) -> None:
    if group.missing_pvs:
        raise RefusedError(
            f"{group.name} lacks {group.missing_pvs} of its disks",
            effect=_UNTOUCHED,
            hint="Bring them back (see pvs), or restore to another place.",
        )
