"""Where COW space may lie: the decisions that keep a host from hanging or not booting. Edge.

Refused, from what sysfs shows of the layers:

- COW space that rests, even through other layers, on a volume of the group it serves: the
  snapshot would write to its own suspended origin, and the host would stand still;
- a file for the volume group that boots the host: the loop device is not there early enough,
  and lvm2 does not activate an origin whose snapshot misses its COW space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.cycle.block_device import device_number
from blocksnapd.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.cycle.block_device import Topology
    from blocksnapd.cycle.lvm_text import PhysicalVolume

BOOT_POINTS = ("/", "/usr", "/boot", "/boot/efi", "/etc", "/var")


def check_place(
    topology: Topology, vg: str, vg_uuid: str, pvs: Iterable[PhysicalVolume],
    places: Iterable[str],
) -> None:  # fmt: skip
    """Refuse COW space that could stop the host; a few reads of sysfs.

    Args:
        topology: the block devices.
        vg: the volume group's name, for the message.
        vg_uuid: its UUID: every volume of the group may be an origin.
        pvs: the group's physical volumes.
        places: where COW space is taken from: PV names or ``@tag``.

    Raises:
        RefusedError: with the reason.
    """
    wanted = set(places)
    for pv in pvs:
        if pv.missing or not (wanted & {pv.name, *(f"@{tag}" for tag in pv.tags)}):
            continue
        try:
            devno = device_number(pv.name)
        except (OSError, ValueError):
            continue  # lvm2 will say what is wrong with it
        below = topology.below(devno)
        refuse_own_origin(topology, vg, vg_uuid, below, pv.name)
        if any(topology.loop_file(number) for number in below):
            refuse_boot_group(topology, vg, vg_uuid)


def refuse_own_origin(
    topology: Topology, vg: str, vg_uuid: str, below: Iterable[str], what: str
) -> None:
    """Refuse COW space that rests on a volume of the group it serves.

    Raises:
        RefusedError: one of the devices ``below`` is such a volume.
    """
    for devno in below:
        if _is_volume_of(topology, devno, vg_uuid):
            raise RefusedError(
                f"COW space on {what} would lie on {topology.dm_name(devno)}, a volume of the"
                f" group {vg!r} that it serves.",
                effect="Taking a snapshot would suspend the volume and then write to it: everything"
                " that uses it would hang. Nothing was changed.",
                hint="Put the file on a disk of its own, outside this volume group.",
            )


def refuse_boot_group(topology: Topology, vg: str, vg_uuid: str) -> None:
    """Refuse a file as COW space for the group that boots the host.

    Raises:
        RefusedError: one of the group's volumes holds the system.
    """
    for point in boot_points_on(topology, vg_uuid):
        raise RefusedError(
            f"The volume group {vg!r} holds {point}; a file cannot be its COW space.",
            effect="At boot the file's disk is not mounted yet, and lvm2 does not activate a volume"
            " whose snapshot misses its COW space: the host would not start. Nothing was changed.",
            hint="Give the group a real disk or partition as COW space ('vgextend'), or use the"
            " driver 'scan' for this volume.",
        )


def boot_points_on(topology: Topology, vg_uuid: str) -> list[str]:
    """Return which of the system's own directories lie on a volume of the group."""
    points = []
    for point in BOOT_POINTS:
        mount = topology.mount_of(point)
        is_root = point == "/"
        if mount is None or (mount.point != point and not is_root):
            continue
        if any(_is_volume_of(topology, d, vg_uuid) for d in topology.below_file(mount.point)):
            points.append(point)
    return points


def _is_volume_of(topology: Topology, devno: str, vg_uuid: str) -> bool:
    return topology.dm_uuid(devno).startswith("LVM-" + vg_uuid.replace("-", ""))
