"""lvm2 as text: command lines built, reports parsed. Pure.

What we own in a volume group carries ``TAG``; a snapshot also says whose it is
(``blocksnap.volume=`` the origin's LV UUID) and which point it was taken for
(``blocksnap.point=``). A snapshot gets a new name each time, ``bs_<point_id>``: what is left of
an old one can then never stand in the way of the next.

Reports are JSON in which every value is a string: ``"-1"`` and ``""`` mean unknown.

Source: lvm2 2.03.16, lvm-fullreport(8), lvcreate(8), lvmreport(7), ``lib/report/columns.h``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocksnapd.errors import LvmError, UsageError
from blocksnapd.model import SeenSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.model import SnapshotState

TAG = "blocksnap"
TAG_VOLUME = "blocksnap.volume="
TAG_POINT = "blocksnap.point="
COW_PV_TAG = "blocksnap_cow"
SNAPSHOT_PREFIX = "bs_"
VIEW_PREFIX = "bsview_"  # snapshots that a view stands on; no rotation knows them
MERGE_PREFIX = "bsmerge_"  # COW devices that are merged into their origin
CHUNK_SIZE_MIN = 4096
REPORT_SIZE_MAX = 32 * 1024 * 1024

_VG_FIELDS = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_missing_pv_count,vg_tags"
_OWN_PV_FIELDS = "pv_name,pv_uuid,pv_size,pv_free,pv_used,pv_tags,pv_missing"
_PV_FIELDS = f"{_OWN_PV_FIELDS},vg_name"
_FULL_REPORT = {
    "vg": _VG_FIELDS, "pv": _OWN_PV_FIELDS,
    "lv": "lv_name,lv_uuid,lv_attr,lv_size,origin,lv_snapshot_invalid,lv_role,lv_tags,"
          "lv_kernel_major,lv_kernel_minor",
    "pvseg": "pvseg_start", "seg": "seg_start",  # none of them may be left out
}  # fmt: skip
_REPORT = ["--reportformat", "json", "--units", "b", "--nosuffix", "--binary"]
_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*")
_POINT_ID = re.compile(r"[A-Za-z0-9_.]{1,100}")


@dataclass(frozen=True, slots=True)
class VolumeName:
    """``VG/LV``, each part a name that lvm2 allows."""

    vg: str
    lv: str

    @classmethod
    def parse(cls, text: str) -> VolumeName:
        """Return the name that ``"vg/lv"``, ``"/dev/vg/lv"`` or ``"/dev/mapper/vg-lv"`` means.

        Raises:
            UsageError: it is none of these.
        """
        plain = text.removeprefix("/dev/")
        if plain.startswith("mapper/"):
            vg, _, lv = re.sub(r"(?<!-)-(?!-)", "/", plain[7:], count=1).partition("/")
            plain = f"{vg.replace('--', '-')}/{lv.replace('--', '-')}"
        vg, _, lv = plain.partition("/")
        if not all(_NAME.fullmatch(part) and part not in (".", "..") for part in (vg, lv)):
            raise UsageError(
                f"{text!r} does not name a logical volume.", hint="Write it as 'vg/lv'."
            )
        return cls(vg, lv)

    def __str__(self) -> str:
        return f"{self.vg}/{self.lv}"

    @property
    def dm(self) -> str:
        """The device-mapper name."""
        return dm_name(self.vg, self.lv)


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One LV of a report; sizes in bytes, ``devno`` is ``(major, minor)`` or None if inactive."""

    vg: str
    vg_uuid: str
    extent_size: int
    name: str
    uuid: str
    attr: str
    size: int
    origin: str
    invalid: bool
    role: tuple[str, ...]
    tags: tuple[str, ...]
    devno: tuple[int, int] | None

    @property
    def is_ours(self) -> bool:
        """Whether it carries our tag."""
        return TAG in self.tags

    @property
    def active(self) -> bool:
        """Whether the kernel has the device, with a table: the fifth attribute letter."""
        return self.attr[4] in "asISmM"

    @property
    def is_open(self) -> bool:
        """Whether somebody uses the device: the sixth attribute letter."""
        return self.attr[5] == "o"

    def tag_value(self, prefix: str) -> str:
        """Return what follows ``prefix`` in the first tag that has it, or nothing."""
        return next((t[len(prefix) :] for t in self.tags if t.startswith(prefix)), "")


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """One row of ``vgs``; sizes in bytes."""

    name: str
    uuid: str
    size: int
    free: int
    extent_size: int
    missing_pvs: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """One row of ``pvs``; sizes in bytes. ``vg`` is empty for one in no volume group."""

    name: str
    uuid: str
    vg: str
    size: int
    free: int
    used: int
    tags: tuple[str, ...]
    missing: bool


@dataclass(frozen=True, slots=True)
class GroupReport:
    """All of one volume group at one moment, hidden volumes and missing disks included."""

    volumes: list[LogicalVolume]
    physical_volumes: list[PhysicalVolume]


def dm_name(vg: str, lv: str, layer: str = "") -> str:
    """Return lvm2's device-mapper name: parts joined by ``-``, their own hyphens doubled."""
    parts = [part.replace("-", "--") for part in (vg, lv)]
    return "-".join([*parts, layer] if layer else parts)


def snapshot_name(point_id: str) -> str:
    """Return the LV name of the snapshot for ``point_id``.

    Raises:
        ValueError: a point id that cannot be part of an LV name and a tag.
    """
    if not _POINT_ID.fullmatch(point_id):
        raise ValueError(f"{point_id!r} cannot name a snapshot")
    return f"{SNAPSHOT_PREFIX}{point_id}"


def snapshot_tags(volume_uuid: str, point_id: str) -> tuple[str, ...]:
    """Return the tags of the snapshot for ``point_id`` of the origin with this LV UUID."""
    return TAG, f"{TAG_VOLUME}{volume_uuid}", f"{TAG_POINT}{point_id}"


def configuration(*, udev: bool) -> str:
    """Return the settings that every command of ours runs under, whatever lvm.conf says.

    Nobody else extends our snapshots, no archive file for each of thousands of cycles, removal
    gives a sparse file its space back. Without udevd nobody would ever complete udev's cookies.
    """
    settings = [
        "activation{monitoring=0 snapshot_autoextend_threshold=100}",
        "backup{backup=0 archive=0}",
        "devices{issue_discards=1}",
        "global{use_lvmpolld=0}",
    ]
    if not udev:
        settings += [
            "activation{udev_sync=0 udev_rules=0}",
            'devices{obtain_device_list_from_udev=0 external_device_info_source="none"}',
        ]
    return " ".join(settings)


def group_argv(vg: str, *, udev: bool) -> list[str]:
    """Return the command that reports all of a group: it takes as long as ``lvs`` alone."""
    parts = [f for kind in _FULL_REPORT.items() for f in ("--configreport", kind[0], "-o", kind[1])]
    settings = configuration(udev=udev)
    return ["lvm", "fullreport", *_REPORT, "--config", settings, "-a", *parts, vg]


def vgs_argv(*, udev: bool) -> list[str]:
    """Return the command that reports every volume group."""
    return ["vgs", *_REPORT, "--config", configuration(udev=udev), "-o", _VG_FIELDS]


def pvs_argv(*, udev: bool) -> list[str]:
    """Return the command that reports every physical volume, and the missing ones."""
    return ["pvs", *_REPORT, "--config", configuration(udev=udev), "-o", _PV_FIELDS]


def create_argv(
    volume: VolumeName, *, volume_uuid: str, point_id: str, chunk_size: int, size: int,
    places: Iterable[str], udev: bool,
) -> list[str]:  # fmt: skip
    """Return the command that takes the snapshot for ``point_id``.

    Args:
        volume: the origin.
        volume_uuid: the origin's LV UUID, for the tag.
        point_id: the point it is for.
        chunk_size: bytes, a power of two from 4 KiB to 512 KiB.
        size: bytes of COW space; lvm2 rounds up to extents, and cuts what could not be used.
        places: physical volumes, or ``@tag``, that the COW space must come from.
        udev: whether udevd runs.
    """
    tags = snapshot_tags(volume_uuid, point_id)
    return [
        "lvcreate", "--snapshot", "--permission", "r", "--chunksize", f"{chunk_size}b",
        "--size", f"{size}b", "--name", snapshot_name(point_id),
        *(word for tag in tags for word in ("--addtag", tag)),
        "--autobackup", "n", "-qq", "--config", configuration(udev=udev),
        str(volume), *places,
    ]  # fmt: skip


def remove_argv(vg: str, lv: str, *, udev: bool) -> list[str]:
    """Return the command that removes one LV without asking back."""
    settings = configuration(udev=udev)
    return ["lvremove", "-y", "--autobackup", "n", "-qq", "--config", settings, f"{vg}/{lv}"]


def pv_argv(command: str, *words: str, udev: bool) -> list[str]:
    """Return a set-up command (``pvcreate``, ``vgextend``, ``pvchange``, ``vgreduce``, ...)."""
    return [command, "-qq", "--config", configuration(udev=udev), *words]


def parse_group(text: str) -> GroupReport:
    """Parse the reply to ``group_argv``.

    Raises:
        LvmError: it is not a whole report of that shape.
    """
    groups = _rows(text, "vg")
    if len(groups) != 1:
        raise _damaged(f"it tells of {len(groups)} volume groups")
    (group,) = groups
    return GroupReport(
        [_logical_volume({**group, **row}) for row in _rows(text, "lv")],
        [_physical_volume({**group, **row}) for row in _rows(text, "pv")],
    )


def parse_vgs(text: str) -> list[VolumeGroup]:
    """Parse the reply to ``vgs_argv``; raises as ``parse_group``."""
    return [
        VolumeGroup(
            name=_word(row, "vg_name"), uuid=_word(row, "vg_uuid"), size=_number(row, "vg_size"),
            free=_number(row, "vg_free"), extent_size=_number(row, "vg_extent_size"),
            missing_pvs=_number(row, "vg_missing_pv_count"), tags=_list(row, "vg_tags"),
        )
        for row in _rows(text, "vg")
    ]  # fmt: skip


def parse_pvs(text: str) -> list[PhysicalVolume]:
    """Parse the reply to ``pvs_argv``; raises as ``parse_group``."""
    return [_physical_volume(row) for row in _rows(text, "pv")]


def snapshots_of(volumes: list[LogicalVolume], origin: LogicalVolume) -> list[LogicalVolume]:
    """Return what carries our tags for ``origin``, whatever state it is in."""
    return [v for v in volumes if v.is_ours and v.tag_value(TAG_VOLUME) == origin.uuid]


def foreign_snapshots(volumes: list[LogicalVolume], origin: LogicalVolume) -> list[LogicalVolume]:
    """Return the snapshots of ``origin`` that somebody else took; a view's is nobody else's."""
    return [
        v for v in volumes
        if v.origin == origin.name and not v.is_ours
        and not v.name.startswith((VIEW_PREFIX, MERGE_PREFIX))
    ]  # fmt: skip


def unsuitable(origin: LogicalVolume) -> str:
    """Return why a classic snapshot of ``origin`` is impossible, or nothing."""
    kinds = {
        "V": "is a thin volume", "t": "is a thin pool", "d": "is a VDO pool",
        "s": "is itself a snapshot", "S": "is itself a snapshot, being merged",
        "O": "has a snapshot merged into it just now", "p": "is being moved to another disk",
        "v": "is a virtual volume", "e": "is lvm2's own metadata", "T": "is a pool's data",
        "i": "is part of another volume", "I": "is part of another volume",
        "l": "is the log of a mirror",
    }  # fmt: skip
    return kinds.get(origin.attr[0], "")


def seen(snapshot: LogicalVolume, numbers: tuple[int, int] | None) -> SeenSnapshot:
    """Judge one snapshot of ours.

    That an LV exists proves nothing: only a classic snapshot that is active and whose
    device-mapper status is a number is whole.

    Args:
        snapshot: its row.
        numbers: (used, size) from the kernel, None when the status is no number.
    """
    state: SnapshotState = "half"
    if snapshot.attr[0] in "sS" and snapshot.origin:
        if snapshot.invalid or snapshot.attr[4] in "IS":
            state = "invalid"
        elif snapshot.attr[0] == "s" and snapshot.attr[4] == "a" and numbers is not None:
            state = "good"
    used, size = numbers or (0, snapshot.size)
    return SeenSnapshot(
        name=snapshot.name, point_id=snapshot.tag_value(TAG_POINT), state=state, size=size,
        used=used,
    )  # fmt: skip


def _rows(text: str, kind: str) -> list[dict[str, Any]]:
    if len(text) > REPORT_SIZE_MAX:
        raise _damaged(f"it is {len(text)} bytes long")
    try:
        rows = [row for report in json.loads(text)["report"] for row in report[kind]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise _damaged(f"a row of {kind!r} is not an object")
    return rows


def _logical_volume(row: dict[str, Any]) -> LogicalVolume:
    attr = _word(row, "lv_attr")
    if len(attr) < 5:
        raise _damaged(f"lv_attr is {attr!r}")
    major, minor = _number(row, "lv_kernel_major"), _number(row, "lv_kernel_minor")
    return LogicalVolume(
        vg=_word(row, "vg_name"), vg_uuid=_word(row, "vg_uuid"),
        extent_size=_number(row, "vg_extent_size"), name=_word(row, "lv_name").strip("[]"),
        uuid=_word(row, "lv_uuid"), attr=attr, size=_number(row, "lv_size"),
        origin=_word(row, "origin").strip("[]"),
        invalid=_word(row, "lv_snapshot_invalid") == "1", role=_list(row, "lv_role"),
        tags=_list(row, "lv_tags"),
        devno=(major, minor) if major >= 0 and minor >= 0 else None,
    )  # fmt: skip


def _physical_volume(row: dict[str, Any]) -> PhysicalVolume:
    return PhysicalVolume(
        name=_word(row, "pv_name"), uuid=_word(row, "pv_uuid"), vg=_word(row, "vg_name"),
        size=_number(row, "pv_size"), free=_number(row, "pv_free"),
        used=_number(row, "pv_used"), tags=_list(row, "pv_tags"),
        missing=_word(row, "pv_missing") == "1",
    )  # fmt: skip


def _word(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise _damaged(f"{key} is {value!r}")
    return value


def _number(row: dict[str, Any], key: str) -> int:
    word = _word(row, key) or "0"
    try:
        return int(word)
    except ValueError:
        raise _damaged(f"{key} is {word[:40]!r}, wanted a whole number") from None


def _list(row: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(word for word in _word(row, key).split(",") if word)


def _damaged(what: str) -> LvmError:
    return LvmError(
        f"A report of lvm2 cannot be read: {what}.",
        effect="The state of the volumes is unknown; nothing was changed.",
        hint="See whether 'lvs --reportformat json' works; its version may be too old.",
    )
