"""Logical volumes in an image that is, or holds, physical volumes of LVM2. Pure.

Read are linear and striped volumes; of the others there is only told that they are there.

Source: lvm2, lib/label/label.h, lib/format_text/layout.h (``struct pv_header``, ``mda_header``,
``raw_locn``), lib/misc/crc.c.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blocksnapd.errors import ChecksumError, FormatError
from blocksnapd.files import lvm_text
from blocksnapd.files.source import Pieces, Striped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocksnapd.files.lvm_text import Section
    from blocksnapd.files.source import Source

SECTOR: Final = 512
LABEL: Final = b"LABELONE"
LABEL_SECTORS: Final = 4
VOLUMES_MAX: Final = 256
SEGMENTS_MAX: Final = 1 << 16
_TYPE: Final = b"LVM2 001"
_MAGIC: Final = b" LVM2 x[5A%r0N*>"
_CRC_START: Final = 0xF597A6CF
_AREAS_MAX: Final = 8
_IGNORED: Final = 1


class Disk(NamedTuple):
    """A physical volume: where in the image it begins, if it is in one piece."""

    source: Source
    offset: int | None


class Volume(NamedTuple):
    """A logical volume; ``source`` is None with the reason in ``note``."""

    name: str
    size: int
    source: Source | None
    offset: int | None
    note: str


def is_physical_volume(head: bytes) -> bool:
    """Say whether a disk that begins so is one."""
    return any(head[at : at + 8] == LABEL for at in range(0, LABEL_SECTORS * SECTOR, SECTOR))


def logical_volumes(disks: Sequence[Disk]) -> list[Volume]:
    """Return the visible volumes of all groups on these disks; what is damaged is left out.

    Raises:
        ChecksumError, StoreError: a disk cannot be read.
    """
    groups: dict[str, tuple[str, Section]] = {}
    here: dict[str, Disk] = {}
    found: list[Volume] = []
    for disk in disks:
        with _around_damage():
            identity, name, group = _read(disk.source)
            known = groups.get(str(group.get("id")))
            if known is None or _int(group, "seqno") > _int(known[1], "seqno"):
                groups[str(group.get("id"))] = (name, group)
            here[identity] = disk
    for name, group in groups.values():
        with _around_damage():
            found += _volumes(name, group, here)  # adds what comes before any damage
    return found[:VOLUMES_MAX]


@contextmanager
def _around_damage() -> Iterator[None]:
    """Leave out what is damaged, but not what the point itself has lost."""
    try:
        yield
    except FormatError as error:
        if isinstance(error, ChecksumError):
            raise


def _read(disk: Source) -> tuple[str, str, Section]:
    """Return the identity of a physical volume, the name of its group, and what is in that."""
    head = disk.read_at(0, min(disk.size, LABEL_SECTORS * SECTOR))
    at = next((a for a in range(0, len(head), SECTOR) if head[a : a + 8] == LABEL), None)
    if at is None or head[at + 24 : at + 32] != _TYPE:
        raise _damaged()
    begin = at + struct.unpack_from("<I", head, at + 20)[0]
    identity = head[begin : begin + 32].decode("ascii", errors="replace")
    areas = _areas(head, begin + 40)
    for offset, _ in areas:
        with _around_damage():
            return identity, *_group(disk, offset)
    raise _damaged()


def _areas(head: bytes, at: int) -> list[tuple[int, int]]:
    """Return where metadata is: the second of two lists, each with zeros at its end."""
    lists: list[list[tuple[int, int]]] = [[], []]
    for found in lists:
        while at + 16 <= len(head) and len(found) <= _AREAS_MAX:
            offset, size = struct.unpack_from("<QQ", head, at)
            at += 16
            if not offset:
                break
            found.append((offset, size))
    return lists[1]


def _group(disk: Source, at: int) -> tuple[str, Section]:
    header = disk.read_at(at, SECTOR)
    start, area = struct.unpack_from("<QQ", header, 24)
    offset, size, checksum, flags = struct.unpack_from("<QQII", header, 40)
    if header[4:20] != _MAGIC or flags & _IGNORED or not SECTOR <= offset < area:
        raise _damaged()
    if not 0 < size <= min(area - SECTOR, lvm_text.TEXT_SIZE_MAX):
        raise _damaged()
    first = min(size, area - offset)
    # The area is a ring behind its header.
    text = disk.read_at(start + offset, first) + disk.read_at(start + SECTOR, size - first)
    if ~zlib.crc32(text, ~_CRC_START & 0xFFFFFFFF) & 0xFFFFFFFF != checksum:
        raise _damaged()
    found = lvm_text.parse(text.rstrip(b"\0\n").decode(errors="replace"))
    for name, value in found.items():
        if isinstance(value, dict):
            return name, value
    raise _damaged()


def _volumes(name: str, group: Section, here: dict[str, Disk]) -> Iterator[Volume]:
    extent = _int(group, "extent_size") * SECTOR
    disks = {
        key: (here.get(str(of.get("id")).replace("-", "")), _int(of, "pe_start") * SECTOR)
        for key, of in _inner(group, "physical_volumes")
    }
    for key, volume in _inner(group, "logical_volumes"):
        if "VISIBLE" not in (volume.get("status") or []):
            continue
        segments = [s for n, s in volume.items() if n.startswith("segment") and type(s) is dict]
        size = sum(_int(segment, "extent_count") for segment in segments) * extent
        shown = f"{name}/{key}"[:256]
        try:
            source, offset = _made(segments, disks, extent)
        except FormatError as error:
            if isinstance(error, ChecksumError):
                raise
            yield Volume(shown, size, None, None, error.message)
        else:
            yield Volume(shown, size, source, offset, "")


def _made(
    segments: list[Section], disks: dict[str, tuple[Disk | None, int]], extent: int
) -> tuple[Source, int | None]:
    """Return a volume, and where in the image it is if it is there in one piece."""
    pieces: list[tuple[Source, int, int]] = []
    places: list[tuple[int, int] | None] = []
    following = 0
    if not segments or len(segments) > SEGMENTS_MAX:
        raise _damaged()
    for segment in sorted(segments, key=lambda s: _int(s, "start_extent")):
        if _int(segment, "start_extent") != following:
            raise _damaged()
        following += _int(segment, "extent_count")
        length = _int(segment, "extent_count") * extent
        stripes = _stripes(segment, disks, extent)
        if len(stripes) == 1:
            disk, at = stripes[0]
            pieces.append((disk.source, at, length))
            places.append(None if disk.offset is None else (disk.offset + at, length))
        else:
            size = _int(segment, "stripe_size") * SECTOR
            parts = [(disk.source, at) for disk, at in stripes]
            pieces.append((Striped(parts, size, length), 0, length))
            places.append(None)
    source = Pieces(pieces)
    return source, _in_one_piece(places)


def _stripes(
    segment: Section, disks: dict[str, tuple[Disk | None, int]], extent: int
) -> list[tuple[Disk, int]]:
    kind = segment.get("type")
    if kind not in ("striped", "linear"):
        raise FormatError(f"it is of type {str(kind)[:40]}, which only a kernel reads")
    pairs, count = segment.get("stripes"), _int(segment, "stripe_count")
    if not isinstance(pairs, list) or len(pairs) != 2 * count or not 0 < count <= 128:
        raise _damaged()
    found = []
    for name, first in zip(pairs[::2], pairs[1::2], strict=True):
        disk, begin = disks.get(name, (None, 0)) if isinstance(name, str) else (None, 0)
        if disk is None:
            raise FormatError("part of it is on a disk that is not in this point")
        if type(first) is not int or first < 0:
            raise _damaged()
        found.append((disk, begin + first * extent))
    return found


def _in_one_piece(places: list[tuple[int, int] | None]) -> int | None:
    end = None
    for place in places:
        if place is None or end not in (None, place[0]):
            return None
        end = sum(place)
    return places[0][0] if places[0] else None


def _inner(section: Section, name: str) -> list[tuple[str, Section]]:
    found = section.get(name)
    items = found.items() if isinstance(found, dict) else ()
    return [(key, value) for key, value in items if isinstance(value, dict)]


def _int(section: Section, name: str) -> int:
    """Return a number that may not be negative, nor larger than any disk."""
    found: Any = section.get(name)
    if type(found) is not int or not 0 <= found < 1 << 48:
        raise _damaged()
    return found


def _damaged() -> FormatError:
    return FormatError("the metadata of a volume group is damaged")
