"""Names of objects: made, parsed, checked. Pure.

See FORMAT.md § 2. Every name that goes to a store or comes from one passes ``check_name``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.errors import (
    BlocksnapError,
    FormatError,
    ObjectExistsError,
    RepositoryFormatError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAME_SIZE_MAX = 512
REPOSITORY_NAME = "repo.json"
FLOORS_PREFIX = "f/"

_PART = r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,127}"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_VOLUME = re.compile(_PART)
POINT_ID = re.compile(r"p[0-9a-f]{16}")
_POINT = re.compile(rf"v/({_PART})/p/([0-9a-f]{{16}})-(p[0-9a-f]{{16}})\.pt")
_PACK = re.compile(
    rf"v/({_PART})/d/([0-9]{{8}})/([pr][0-9a-f]{{16}})-[0-9a-f]{{4,8}}-[0-9a-f]{{8}}\.pk"
)
_LAYER = re.compile(rf"v/({_PART})/l/([0-9a-f]{{16}})-([0-9a-f]{{16}})-[0-9a-f]{{8}}\.ly")
_MANIFEST = re.compile(rf"m/({_PART})/([0-9a-f]{{16}})\.mf")
_COLLECTION = re.compile(rf"g/({_PART})/([0-9a-f]{{16}})\.(cond|done)")
_FLOOR = re.compile(r"f/([0-9a-f]{16})-([0-9a-f]{16})\.floor")
_RECORD = re.compile(rf"t/({_PART})/[0-9]{{6}}/([0-9a-f]{{16}})-[0-9a-f]{{8}}\.(ok|bad|healed)")


class PointName(NamedTuple):
    """What the name of a point says."""

    volume_id: str
    seq: int
    point_id: str


class PackName(NamedTuple):
    """What the name of a pack says; ``session`` is a point's id, or that of a repacking."""

    volume_id: str
    day: str
    session: str


class RecordName(NamedTuple):
    """What the name of a record of verification says; ``time_us`` is when it was first told."""

    volume_id: str
    time_us: int
    kind: str


class LayerName(NamedTuple):
    """What the name of a layer says."""

    volume_id: str
    from_seq: int
    to_seq: int


def check_name(name: str) -> str:
    """Return ``name`` if it may be an object's.

    Raises:
        RepositoryFormatError: it is too long, or a part is empty or starts with a dot.
    """
    if not is_name(name):
        raise RepositoryFormatError(f"{name[:80]!r} cannot be the name of an object")
    return name


def is_name(name: str) -> bool:
    """Return whether ``name`` may be an object's."""
    return len(name) <= NAME_SIZE_MAX and _NAME.fullmatch(name) is not None


def check_volume_id(volume_id: str) -> str:
    """Return ``volume_id`` if it may stand in names.

    Raises:
        UsageError: it may not.
    """
    if _VOLUME.fullmatch(volume_id) is None:
        raise UsageError(
            f"{volume_id[:140]!r} cannot name a volume in a repository",
            hint="Use letters, digits and . _ + @ = - only, 1 to 128 of them.",
        )
    return volume_id


def check_point_id(point_id: str) -> str:
    """Return ``point_id`` if it is ``p`` and 16 hex digits.

    Raises:
        UsageError: it is not.
    """
    if POINT_ID.fullmatch(point_id) is None:
        raise UsageError(f"{point_id[:40]!r} is not a point id: write p and 16 hex digits")
    return point_id


def volume_prefix(volume_id: str) -> str:
    """Return what all names of a volume start with."""
    return f"v/{check_volume_id(volume_id)}/"


def points_prefix(volume_id: str) -> str:
    """Return what the names of a volume's points start with."""
    return f"{volume_prefix(volume_id)}p/"


def packs_prefix(volume_id: str) -> str:
    """Return what the names of a volume's packs start with."""
    return f"{volume_prefix(volume_id)}d/"


def point_name(volume_id: str, seq: int, point_id: str) -> str:
    """Return the name of a point; names of one volume sort by ``seq``."""
    return f"{points_prefix(volume_id)}{seq:016x}-{check_point_id(point_id)}.pt"


def parse_point_name(name: str) -> PointName:
    """Return what a point's name says.

    Raises:
        RepositoryFormatError: ``name`` is not a point's.
    """
    match = _matched(_POINT, name, "a point")
    return PointName(match[1], int(match[2], 16), match[3])


def is_point_name(name: str) -> bool:
    """Return whether ``name`` is a point's."""
    return _POINT.fullmatch(name) is not None


def pack_name(volume_id: str, day: str, point_id: str, number: int, nonce: str) -> str:
    """Return the name of the pack ``number`` of a session; ``nonce`` makes each attempt its own."""
    return f"{packs_prefix(volume_id)}{day}/{point_id}-{number:04x}-{nonce}.pk"


def repacked_name(volume_id: str, day: str, generation: int, number: int, nonce: str) -> str:
    """Return the name of the pack ``number`` that replaces others from manifest ``generation``."""
    return f"{packs_prefix(volume_id)}{day}/r{generation:016x}-{number:04x}-{nonce}.pk"


def parse_pack_name(name: str) -> PackName:
    """Return what a pack's name says.

    Raises:
        RepositoryFormatError: ``name`` is not a pack's.
    """
    match = _matched(_PACK, name, "a pack")
    return PackName(match[1], match[2], match[3])


def is_pack_name(name: str) -> bool:
    """Return whether ``name`` is a pack's: one that only a single attempt can have."""
    return _PACK.fullmatch(name) is not None


def layers_prefix(volume_id: str) -> str:
    """Return what the names of a volume's layers start with."""
    return f"{volume_prefix(volume_id)}l/"


def layer_name(volume_id: str, from_seq: int, to_seq: int, nonce: str) -> str:
    """Return the name of a layer; ``nonce``, 8 hex digits, makes each attempt its own."""
    return f"{layers_prefix(volume_id)}{from_seq:016x}-{to_seq:016x}-{nonce}.ly"


def parse_layer_name(name: str) -> LayerName:
    """Return what a layer's name says.

    Raises:
        RepositoryFormatError: ``name`` is not a layer's.
    """
    match = _matched(_LAYER, name, "a layer")
    return LayerName(match[1], int(match[2], 16), int(match[3], 16))


def manifests_prefix(volume_id: str) -> str:
    """Return what the names of a volume's manifests start with."""
    return f"m/{check_volume_id(volume_id)}/"


def manifest_name(volume_id: str, generation: int) -> str:
    """Return the name of a manifest; names of one volume sort by ``generation``."""
    return f"{manifests_prefix(volume_id)}{generation:016x}.mf"


def parse_manifest_name(name: str) -> tuple[str, int]:
    """Return volume and generation of a manifest's name.

    Raises:
        RepositoryFormatError: ``name`` is not a manifest's.
    """
    match = _matched(_MANIFEST, name, "a manifest")
    return match[1], int(match[2], 16)


def collections_prefix(volume_id: str) -> str:
    """Return what the names of a volume's condemned lists and proofs of sweep start with."""
    return f"g/{check_volume_id(volume_id)}/"


def condemned_name(volume_id: str, epoch: int) -> str:
    """Return the name of the list of objects that collection ``epoch`` is about to delete."""
    return f"{collections_prefix(volume_id)}{epoch:016x}.cond"


def done_name(volume_id: str, epoch: int) -> str:
    """Return the name of the proof that collection ``epoch`` deleted what it condemned."""
    return f"{collections_prefix(volume_id)}{epoch:016x}.done"


def parse_collection_name(name: str) -> tuple[str, int, str]:
    """Return volume, epoch and ``cond`` or ``done``.

    Raises:
        RepositoryFormatError: ``name`` is not of a collection.
    """
    match = _matched(_COLLECTION, name, "a collection")
    return match[1], int(match[2], 16), match[3]


def records_prefix(volume_id: str) -> str:
    """Return what the names of a volume's records of verification start with."""
    return f"t/{check_volume_id(volume_id)}/"


def record_name(volume_id: str, month: str, time_us: int, nonce: str, kind: str) -> str:
    """Return the name of a record; names of one month sort by time. ``kind``: ok, bad or healed."""
    return f"{records_prefix(volume_id)}{month}/{time_us:016x}-{nonce}.{kind}"


def healed_name(bad: str) -> str:
    """Return the name of the record that closes the record of damage named ``bad``."""
    return f"{bad.removesuffix('.bad')}.healed"


def parse_record_name(name: str) -> RecordName:
    """Return what a record's name says.

    Raises:
        RepositoryFormatError: ``name`` is not a record's.
    """
    match = _matched(_RECORD, name, "a record")
    return RecordName(match[1], int(match[2], 16), match[3])


def floor_name(keeper: str, generation: int) -> str:
    """Return the name of what a keeper, 16 hex digits, says of the floor."""
    return f"{FLOORS_PREFIX}{keeper}-{generation:016x}.floor"


def parse_floor_name(name: str) -> tuple[str, int]:
    """Return keeper and generation of a floor's name.

    Raises:
        RepositoryFormatError: ``name`` is not a floor's.
    """
    match = _matched(_FLOOR, name, "a floor")
    return match[1], int(match[2], 16)


def is_of(parse: Callable[[str], object], name: str) -> bool:
    """Return whether ``parse``, one of the functions here, takes ``name``."""
    try:
        parse(name)
    except FormatError:
        return False
    return True


def _matched(pattern: re.Pattern[str], name: str, what: str) -> re.Match[str]:
    match = pattern.fullmatch(name)
    if match is None:
        raise RepositoryFormatError(f"{name[:140]!r} is not the name of {what}")
    return match


def check_free(name: str, seq: int, point_id: str) -> None:
    """Make sure that the point named ``name`` leaves room for ``seq`` and ``point_id``.

    Raises:
        ObjectExistsError: it takes the place, comes after it, or has the id.
    """
    try:
        taken = parse_point_name(name)
    except BlocksnapError:
        return  # not a point; verify reports it
    if taken.seq >= seq or taken.point_id == point_id:
        raise ObjectExistsError(
            f"point {taken.point_id} already has place {taken.seq} of volume {taken.volume_id}",
            effect=f"{point_id} was not committed; nothing was changed.",
            hint="Look at the newest point and go on from it.",
        )
