"""The block volumes of a host, told by ``lsblk`` and lvm2, and TOML that protects them. Pure.

A volume is what holds data by itself: a logical volume that people see, or a disk, partition,
array or opened crypt device that nothing else is made of. Snapshots and what lies on COW space are
none; nor are devices whose content is only a part of something else.

Source: util-linux 2.37 and later, lsblk(8); lvs(8) as in lvm_text.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.cycle import lvm_text
from blocksnapd.errors import HostError
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from blocksnapd.cycle.lvm_text import LogicalVolume

LSBLK: Final = [  # a report without NAME is no tree
    "lsblk", "--json", "--bytes", "--output", "NAME,PATH,TYPE,SIZE,FSTYPE,MOUNTPOINTS,MAJ:MIN,RO",
]  # fmt: skip
REPORT_SIZE_MAX: Final = 16 * 1024 * 1024
DEPTH_MAX: Final = 64
EVERY_S: Final = 300  # between points, in the TOML for a volume that has snapshots
_WHOLE: Final = frozenset({"disk", "part", "crypt", "mpath", "md"})
_PARTS: Final = frozenset(
    {"LVM2_member", "crypto_LUKS", "linux_raid_member", "zfs_member", "mpath_member", "swap"}
)  # a file system, by blkid's word, that is part of something else, or that nobody restores
_OTHERS: Final = (lvm_text.SNAPSHOT_PREFIX, lvm_text.VIEW_PREFIX, lvm_text.MERGE_PREFIX)


@dataclass(frozen=True, slots=True)
class Device:
    """One row of ``lsblk``; ``size`` in bytes, ``devno`` as ``"8:1"``."""

    path: str
    kind: str
    size: int
    fstype: str
    mounts: tuple[str, ...]
    devno: str
    is_read_only: bool
    has_parts: bool


@dataclass(frozen=True, slots=True)
class HostVolume:
    """A volume that can be protected. ``name`` is what the configuration calls it.

    ``vg`` is empty for what is no logical volume, ``no_snapshot`` says why of one no classic
    snapshot can be taken; it can be compared as a whole all the same.
    """

    name: str
    device: str
    devno: str
    size: int
    fstype: str
    mounts: tuple[str, ...]
    vg: str = ""
    no_snapshot: str = ""


def parse_lsblk(text: str) -> list[Device]:
    """Parse the reply to ``LSBLK``, each device once.

    Raises:
        HostError: it is not a report of that shape.
    """
    try:
        if len(text) > REPORT_SIZE_MAX:
            raise ValueError(f"{len(text)} bytes long")
        devices = {d.devno: d for d in _walked(json.loads(text)["blockdevices"], DEPTH_MAX)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(
            f"A report of lsblk cannot be read: {type(error).__name__}: {error}.",
            effect="The volumes of this host are unknown; nothing was changed.",
            hint="See whether 'lsblk --json' works; it takes util-linux 2.37 or later.",
        ) from error
    return list(devices.values())


def _walked(rows: list[dict[str, Any]], depth: int) -> Iterator[Device]:
    if depth == 0:
        raise ValueError(f"devices on devices, {DEPTH_MAX} deep")
    for row in rows:
        children = row.get("children") or []
        yield Device(
            path=str(row["path"]), kind=str(row["type"]), size=int(row["size"] or 0),
            fstype=str(row["fstype"] or ""),
            mounts=tuple(str(m) for m in row["mountpoints"] if m), devno=str(row["maj:min"]),
            is_read_only=bool(row["ro"]), has_parts=bool(children),
        )  # fmt: skip
        yield from _walked(children, depth - 1)


def volumes_of(devices: Iterable[Device], logical: Iterable[LogicalVolume]) -> list[HostVolume]:
    """Return the volumes, the logical ones first, each group in the order of names."""
    by_devno = {d.devno: d for d in devices}
    found = [
        _logical(v, by_devno.get("{}:{}".format(*v.devno)) if v.devno else None)
        for v in logical
        if _is_for_people(v)
    ]
    found.sort(key=lambda v: v.name)
    plain = [
        HostVolume(d.path, d.path, d.devno, d.size, d.fstype, d.mounts)
        for d in by_devno.values()
        if _holds_data(d)
    ]
    return found + sorted(plain, key=lambda v: v.name)


def _holds_data(device: Device) -> bool:
    is_whole = device.kind in _WHOLE or device.kind.startswith("raid")
    is_own = not device.has_parts and device.fstype not in _PARTS
    return is_whole and is_own and device.size > 0 and not device.is_read_only


def _is_for_people(volume: LogicalVolume) -> bool:
    is_ours = volume.is_ours or volume.name.startswith(_OTHERS)
    return "public" in volume.role and not volume.origin and not is_ours


def _logical(volume: LogicalVolume, device: Device | None) -> HostVolume:
    name = f"{volume.vg}/{volume.name}"
    return HostVolume(
        name=name, device=f"/dev/{name}",
        devno=device.devno if device else "", size=volume.size,
        fstype=device.fstype if device else "", mounts=device.mounts if device else (),
        vg=volume.vg, no_snapshot=lvm_text.unsuitable(volume),
    )  # fmt: skip


def toml(volume: HostVolume, *, rate: float, spaces: Collection[str]) -> str:
    """Return what to paste into the configuration so that ``volume`` is protected.

    Args:
        volume: which.
        rate: bytes a second that were written to it, on average.
        spaces: the volume groups for which COW space is configured already.
    """
    each = f"# {_text(volume.name)}: {format_size(volume.size)}, "
    if not volume.vg or volume.no_snapshot:
        why = f"it {volume.no_snapshot}" if volume.no_snapshot else "it is not in LVM"
        lines = [
            f"{each}{why}: all of it is read each time,",
            "# and a point mixes what it held then and later if something writes meanwhile.",
            f'[volume.{_text(volume.device)}]\ndriver = "scan"\nevery = "1d"\nrpo = "2d"',
        ]
        return "\n".join(lines) + "\n"
    lines = [f"{each}about {format_size(rate * EVERY_S)} written in 5 minutes, on average"]
    if volume.vg not in spaces:
        lines += [
            f"[cow.{_key(volume.vg)}]  # make it with: blocksnapctl cow create",
            f"file = {_text(f'/mnt/spare/{volume.vg}.img')}  # on a disk outside of {volume.vg}",
            f"vg = {_text(volume.vg)}",
        ]
    lines.append(f'[volume.{_text(volume.name)}]\nevery = "5m"\nrpo = "10m"')
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key(vg: str) -> str:
    """Return a name for the COW space of ``vg`` that the configuration takes."""
    return re.sub(r"[^a-z0-9-]", "-", vg.lower()).strip("-")[:30] or "space"
