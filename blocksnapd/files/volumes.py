"""Which file systems are in an image: on all of it, in partitions, in logical volumes.

What tables say counts only as far as it lies in the image, and only file systems that are there
are believed. It may block, as the image does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import FormatError, NotFoundError, UsageError
from blocksnapd.files.ext import MAGIC as EXT_MAGIC
from blocksnapd.files.ext import Ext
from blocksnapd.files.lvm import Disk, is_physical_volume, logical_volumes
from blocksnapd.files.source import Pieces
from blocksnapd.files.tables import partitions
from blocksnapd.files.xfs import Xfs
from blocksnapd.files.xfs_maps import MAGIC as XFS_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.files.nodes import FileSystem
    from blocksnapd.files.source import Source

VOLUMES_MAX: Final = 256
TOLD_MAX: Final = 20
HEAD_SIZE: Final = 8192
_WHOLE: Final = "the whole image"
_LVM: Final = "LVM physical volume"


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

    ``offset`` and ``source`` are as in ``Place``.
    """

    number: int
    name: str
    size: int
    kind: str
    label: str = ""
    files: FileSystem | None = None
    notes: list[str] = field(default_factory=list)
    offset: int | None = None
    source: Source | None = None


def volumes_of(image: Source) -> list[Volume]:
    """Return what is in an image, in the order of its tables; at most ``VOLUMES_MAX``.

    Raises:
        ChecksumError, StoreError: the point is damaged at its very beginning, or unreadable.
    """
    all_of_it = Place(_WHOLE, image.size, image, offset=0)
    whole = _seen(all_of_it)
    parts = [(place, _seen(place)) for place in _partitions(image)]
    disks = [place for place, volume in parts or [(all_of_it, whole)] if volume.kind == _LVM]
    inner = [volume for _, volume in parts] + [_seen(p) for p in _logical_volumes(disks)]
    # Inside a file system a table is most likely a remnant: only what is there counts.
    found = [] if whole.kind == "unknown" else [whole]
    found += [v for v in inner if whole.files is None or v.files is not None]
    found = [v for v in found if v.kind != _LVM or len(found) == 1] or [whole]
    return [replace(v, number=number) for number, v in enumerate(found[:VOLUMES_MAX], 1)]


def chosen(volumes: Sequence[Volume], number: int | None) -> FileSystem:
    """Return the file system of volume ``number``, or the only one there is.

    Raises:
        NotFoundError: none, or none of that number. UsageError: several.
        FormatError: what is there cannot be read.
    """
    told = [_told(volume) for volume in volumes[:TOLD_MAX]]
    hint = f"There is: {'; '.join(told)}{'; and more' if len(volumes) > TOLD_MAX else ''}"
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


def _seen(place: Place) -> Volume:
    """Return what is at a place; its number comes later."""
    source, notes = place.source, [place.note] if place.note else []
    kind, label = "unknown", ""
    files: Ext | Xfs | None = None
    if source is not None:
        try:
            kind = _kind(_head(source))
            if kind == "ext":
                files = Ext(source)
            elif kind == "xfs":
                files = Xfs(source)
        except FormatError as error:
            notes.append(error.message)
    if files is not None:
        kind, label = files.kind, files.label
        notes += files.notes
    return Volume(
        0, place.name, place.size, kind, label, files, notes, place.offset, source
    )  # fmt: skip


def _kind(head: bytes) -> str:
    if head[:4] == XFS_MAGIC:
        return "xfs"
    if head[1080:1082] == EXT_MAGIC.to_bytes(2, "little"):
        return "ext"
    if is_physical_volume(head):
        return _LVM
    for magic, at, kind in (
        (b"SWAPSPACE2", 4086, "swap"), (b"LUKS\xba\xbe", 0, "LUKS, encrypted"),
        (b"NTFS", 3, "ntfs"), (b"FAT", 54, "fat"), (b"FAT32", 82, "fat"),
    ):  # fmt: skip
        if head[at : at + len(magic)] == magic:
            return kind
    return "unknown"


def _partitions(image: Source) -> Iterator[Place]:
    for number, label, offset, size in partitions(image):
        name = f"partition {number}" + (f" ({label})" if label else "")
        if offset + size > image.size or not offset:
            yield Place(name, size, None, "the partition ends behind the end of the image")
        else:
            yield Place(name, size, Pieces([(image, offset, size)]), offset=offset)


def _logical_volumes(places: Sequence[Place]) -> Iterator[Place]:
    """Yield the logical volumes of all volume groups on these physical volumes."""
    disks = [Disk(place.source, place.offset) for place in places if place.source]
    for found in logical_volumes(disks):
        yield Place(found.name, found.size, found.source, found.note, found.offset)


def _head(source: Source) -> bytes:
    return source.read_at(0, min(source.size, HEAD_SIZE))
