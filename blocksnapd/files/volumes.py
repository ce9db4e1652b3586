"""Which file systems are in an image: on all of it, in partitions, in logical volumes.

Partition tables and the metadata of LVM are read by dissect.volume; what it finds counts only as
far as it lies in the image, and only file systems that are there are believed. The library tells
partitions without their last sector, and does not tell striped volumes from linear ones, so the
places are taken from the tables it read. It may block, as the image does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from dissect.volume.disk import Disk
from dissect.volume.lvm import LVM2, LVM2Device

from blocksnapd.errors import BlocksnapError, FormatError, NotFoundError, UsageError
from blocksnapd.files.ext import MAGIC as EXT_MAGIC
from blocksnapd.files.ext import Ext
from blocksnapd.files.source import Pieces, SourceFile
from blocksnapd.files.xfs import Xfs
from blocksnapd.files.xfs_maps import MAGIC as XFS_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.files.nodes import FileSystem
    from blocksnapd.files.source import Source

VOLUMES_MAX: Final = 256
PIECES_MAX: Final = 1 << 16
SECTOR: Final = 512
_WHOLE: Final = "the whole image"


@dataclass(frozen=True, slots=True)
class Place:
    """Part of an image that may hold something. ``source`` is None if it cannot be put together.

    ``offset`` is where it begins in the image, None if it is not in one piece.
    """

    name: str
    size: int
    source: Source | None
    note: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """What was found at a place, by its number from 1. ``files`` is None if it cannot be read.

    ``offset`` is as in ``Place``.
    """

    number: int
    name: str
    size: int
    kind: str
    label: str = ""
    files: FileSystem | None = None
    notes: list[str] = field(default_factory=list)
    offset: int | None = None


def volumes_of(image: Source) -> list[Volume]:
    """Return what is in an image, in the order of its tables; at most ``VOLUMES_MAX``.

    Raises:
        ChecksumError, StoreError: the point is damaged at its very beginning, or unreadable.
    """
    whole = _seen(0, Place(_WHOLE, image.size, image, offset=0))
    found = [] if whole.kind == "unknown" else [whole]
    partitions = list(_partitions(image))
    places = partitions or [Place(_WHOLE, image.size, image, offset=0)]
    for place in (*partitions, *_logical_volumes(places)):
        if len(found) == VOLUMES_MAX:
            break
        volume = _seen(0, place)
        # Inside a file system a table is most likely a remnant: only what is there counts.
        if whole.files is None or volume.files is not None:
            found.append(volume)
    found = [v for v in found if v.kind != "LVM physical volume" or len(found) == 1]
    return [replace(v, number=number) for number, v in enumerate(found or [whole], 1)]


def chosen(volumes: Sequence[Volume], number: int | None) -> FileSystem:
    """Return the file system of volume ``number``, or the only one there is.

    Raises:
        NotFoundError: none, or none of that number. UsageError: several.
        FormatError: what is there cannot be read.
    """
    listed = "; ".join(_told(volume) for volume in volumes)
    hint = f"There is: {listed}"
    if number is not None and not 0 < number <= len(volumes):
        raise NotFoundError(f"there is no volume {number} in this point", hint=hint)
    if number is None:
        readable = [volume for volume in volumes if volume.files is not None]
        if len(readable) > 1:
            raise UsageError(
                f"there are {len(readable)} file systems in this point",
                effect="Nothing was read.", hint=f"Name one by its number: POINT:1:/path. {hint}",
            )  # fmt: skip
        volume = readable[0] if readable else volumes[0]
    else:
        volume = volumes[number - 1]
    if volume.files is None:
        raise FormatError(
            f"{volume.name} holds no ext2, ext3, ext4 or XFS that can be read: "
            + (volume.notes[0] if volume.notes else volume.kind),
            effect="Nothing was read.",
            hint=f"A kernel may know it: blocksnapctl mount, or export. {hint}",
        )
    return volume.files


def _told(volume: Volume) -> str:
    return f"{volume.number}: {volume.kind} in {volume.name}"


def _seen(number: int, place: Place) -> Volume:
    """Return what is at a place."""
    source, notes = place.source, [place.note] if place.note else []
    kind, label = "unknown", ""
    files: Ext | Xfs | None = None
    if source is not None:
        head = source.read_at(0, min(source.size, 8192))
        kind = _kind(head)
        try:
            if kind == "ext":
                files = Ext(source)
            elif kind == "xfs":
                files = Xfs(source)
        except FormatError as error:
            notes.append(error.message)
    if files is not None:
        kind, label = files.kind, files.label
        notes += files.notes
    return Volume(number, place.name, place.size, kind, label, files, notes, place.offset)


def _kind(head: bytes) -> str:
    if head[:4] == XFS_MAGIC:
        return "xfs"
    if head[1080:1082] == EXT_MAGIC.to_bytes(2, "little"):
        return "ext"
    if any(head[at : at + 8] == b"LABELONE" for at in range(0, 4 * SECTOR, SECTOR)):
        return "LVM physical volume"
    for magic, at, kind in (
        (b"SWAPSPACE2", 4086, "swap"), (b"LUKS\xba\xbe", 0, "LUKS, encrypted"),
        (b"NTFS", 3, "ntfs"), (b"FAT", 54, "fat"), (b"FAT32", 82, "fat"),
    ):  # fmt: skip
        if head[at : at + len(magic)] == magic:
            return kind
    return "unknown"


def _partitions(image: Source) -> Iterator[Place]:
    if image.size < 4 * SECTOR or image.read_at(510, 2) != b"\x55\xaa":
        return
    disk = _of_library(lambda: Disk(SourceFile(image)))
    for partition in (disk.partitions if disk else [])[:VOLUMES_MAX]:
        place = _of_library(lambda p=partition: _partition(image, p))
        if place is not None:
            yield place


def _partition(image: Source, partition: Any) -> Place | None:
    offset, size = int(partition.offset), int(partition.size)
    last = getattr(partition.raw, "last_lba", None)
    if last is not None:
        size = (int(last) + 1) * SECTOR - offset
    if not 0 < offset < image.size or size <= 0 or partition.type in (0x05, 0x0F, 0x85):
        return None
    name = f"partition {int(partition.number)}"
    if partition.name:
        name += f" ({str(partition.name)[:72]})"
    if offset + size > image.size:
        return Place(name, size, None, "the partition ends behind the end of the image")
    return Place(name, size, Pieces(image, [(offset, size)]), offset=offset)


def _logical_volumes(places: Sequence[Place]) -> Iterator[Place]:
    """Yield the logical volumes of all volume groups whose disks are among ``places``."""
    groups: dict[str, tuple[Any, dict[str, Place]]] = {}
    for place in places:
        source = place.source
        if source is None or _kind(source.read_at(0, min(source.size, 8192)))[:3] != "LVM":
            continue
        # A group of its own for the library; which disks it has is told by all of them.
        group = _of_library(lambda s=source: LVM2(LVM2Device(SourceFile(s))))
        if group is None:
            continue
        _, disks = groups.setdefault(str(group.vg.id), (group, {}))
        disks.update({str(identity): place for identity in group.devices})
    for group, disks in groups.values():
        found = _of_library(lambda g=group, d=disks: list(_volumes(g, d)))
        yield from found or []


def _volumes(group: Any, disks: dict[str, Place]) -> Iterator[Place]:
    extent = int(group.vg.extent_size) * SECTOR
    for volume in group.vg.lv[:VOLUMES_MAX]:
        if not volume.is_visible:
            continue
        name = f"{str(group.vg.name)[:128]}/{str(volume.name)[:128]}"
        size = sum(int(segment.extent_count) for segment in volume.segments) * extent
        try:
            disk, pieces = _pieces(group, volume, disks, extent)
            assert disk.source is not None
            begin = None if disk.offset is None else disk.offset + pieces[0][0]
            is_one = all(a + size == b for (a, size), (b, _) in pairwise(pieces))
            source = Pieces(disk.source, pieces)
            yield Place(name, size, source, offset=begin if is_one else None)
        except FormatError as error:
            yield Place(name, size, None, error.message)


def _pieces(
    group: Any, volume: Any, disks: dict[str, Place], extent: int
) -> tuple[Place, list[tuple[int, int]]]:
    """Return the disk a linear volume lies on, and where.

    Raises:
        FormatError: it is not linear, or on several disks, or on one that is not here.
    """
    pieces: list[tuple[int, int]] = []
    on: set[str] = set()
    following = 0
    for segment in sorted(volume.segments, key=lambda s: int(s.start_extent)):
        if str(segment.type) not in ("striped", "linear") or int(segment.stripe_count) != 1:
            raise FormatError("it is not linear, and only linear volumes are read here")
        if int(segment.start_extent) != following or len(pieces) >= PIECES_MAX:
            raise FormatError("its metadata is damaged")
        (disk, first), count = segment.stripes[0], int(segment.extent_count)
        following += count
        physical = group.vg.physical_volumes[disk]
        on.add(str(physical.id).replace("-", ""))
        pieces.append((int(physical.pe_start) * SECTOR + int(first) * extent, count * extent))
    if len(on) != 1 or not on <= disks.keys():
        raise FormatError("it lies on disks that are not in this point, or on several of them")
    below = disks[on.pop()]
    if any(at < 0 or size <= 0 or at + size > below.size for at, size in pieces):
        raise FormatError("it lies behind the end of its disk")
    return below, pieces


def _of_library(work: Any) -> Any:
    """Return what ``work`` does; None where the library stumbles over what it reads.

    Raises:
        BlocksnapError: the image cannot be read there.
    """
    try:
        return work()
    except FormatError as error:
        if type(error) is not FormatError:  # damage of the point itself
            raise
    except BlocksnapError:
        raise
    except Exception:  # hostile tables make it raise whatever Python has
        return None
    return None
