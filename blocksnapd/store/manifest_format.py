"""A volume's manifest: what maintenance knows and decided, as one object. Pure.

See FORMAT.md § 12. A clear header, a sealed body, a tag; generations are chained by digest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import msgspec

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.clear import HEADER_SIZE_MAX, pack_clear, unpack_clear
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.names import POINT_ID, manifest_name, parse_layer_name, parse_manifest_name
from blocksnapd.store.pack_format import PACK_BLOCKS_MAX
from blocksnapd.store.point_format import TIME_US_MAX, PackRef, check_packs
from blocksnapd.store.records import pack_record, unpack_record
from blocksnapd.store.seal import (
    POINT_TAG_SIZE,
    SEAL_SIZE,
    TAG_SIZE,
    Scope,
    close_box,
    damaged,
    digest,
    new_key,
    object_tag,
    open_box,
    open_key,
    seal_key,
)

MAGIC = b"BSNMANIF"
PLAIN_SIZE_MAX = 1 << 28
MANIFEST_SIZE_MAX = PLAIN_SIZE_MAX + HEADER_SIZE_MAX


class PointEntry(msgspec.Struct, frozen=True, array_like=True):
    """A listed point: what catalogues show, so that nobody opens thousands of objects.

    ``mismatched_blocks``: so many blocks of the point before were not what the volume had held.
    """

    seq: int
    point_id: str
    time_us: int
    size: int
    kind: Literal["full", "delta"]
    method: str
    consistency: str
    changed_bytes: int
    shipped_bytes: int
    stored_bytes: int
    tags: tuple[str, ...] = ()
    mismatched_blocks: int = 0


class LayerRef(msgspec.Struct, frozen=True, array_like=True):
    """A layer object; its tail is what ``tail_digest`` (32 bytes) says, or it is not it."""

    from_seq: int
    to_seq: int
    name: str
    size: int
    tail_size: int
    tail_digest: bytes


class Forgotten(msgspec.Struct, frozen=True, array_like=True):
    """A point that retention dropped; it can be brought back until ``until_us``."""

    seq: int
    since_us: int
    until_us: int
    reason: str = ""


class Hold(msgspec.Struct, frozen=True, array_like=True):
    """A point that nothing may drop; ``until_us`` 0: for ever."""

    seq: int
    since_us: int
    until_us: int = 0
    reason: str = ""


class Verified(msgspec.Struct, frozen=True, array_like=True):
    """A point that was checked whole: its structure, its data, or against the source."""

    seq: int
    time_us: int
    level: Literal["structure", "data", "source"]


class Moved(msgspec.Struct, frozen=True):
    """Where the live slots of the pack named ``origin`` are now."""

    origin: str
    packs: tuple[PackRef, ...]


class Patch(msgspec.Struct, frozen=True):
    """The slots ``slot … slot+count-1`` of ``origin`` are damaged; ``to`` has their content."""

    origin: str
    slot: int
    count: int
    to: PackRef
    to_slot: int


class Manifest(msgspec.Struct, frozen=True):
    """Everything of one generation.

    ``points`` (listed: kept and forgotten) and ``forgotten``, ``holds``, ``verified`` ascend by
    seq. ``epoch`` is the last collection that was published. ``pack_count`` and ``pack_bytes``
    are what the last collection found in use, at ``collected_us``: a listing that lost some of
    them is not believed.
    """

    points: tuple[PointEntry, ...] = ()
    layers: tuple[LayerRef, ...] = ()
    forgotten: tuple[Forgotten, ...] = ()
    holds: tuple[Hold, ...] = ()
    verified: tuple[Verified, ...] = ()
    moved: tuple[Moved, ...] = ()
    patches: tuple[Patch, ...] = ()
    epoch: int = 0
    pack_count: int = 0
    pack_bytes: int = 0
    collected_us: int = 0


class ManifestHeader(msgspec.Struct, frozen=True):
    """The clear part."""

    repository_id: str
    volume_id: str
    generation: int
    prev_digest: str
    time_us: int
    plain_size: int = 0
    body_size: int = 0

    @property
    def name(self) -> str:
        """The object's name."""
        return manifest_name(self.volume_id, self.generation)


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A genuine manifest; ``generation`` 0 is the empty one, before there is any object."""

    volume_id: str
    generation: int
    digest: str
    time_us: int
    manifest: Manifest
    prev_digest: str = ""


def pack_manifest(
    header: ManifestHeader, manifest: Manifest, *, metadata_public: bytes, hash_key: bytes
) -> bytes:
    """Return the object; ``header`` comes without the two sizes."""
    plain = pack_record(manifest)
    body = compress(plain)
    header = msgspec.structs.replace(header, plain_size=len(plain), body_size=len(body) + TAG_SIZE)
    clear = pack_clear(MAGIC, header)
    info, key = _scope(header).binding("manifest"), new_key()
    seal = seal_key(key, metadata_public, info)
    data = b"".join([clear, seal, close_box(key, 0, body, info + b"\0" + clear)])
    return data + object_tag("manifests", hash_key, data)


def unpack_manifest(
    data: bytes, name: str, repository_id: str, *, hash_key: bytes, metadata_private: bytes
) -> LoadedManifest:
    """Return the manifest in ``data``, genuine and whole.

    Raises:
        ChecksumError: a bit of it is not what was written.
        RepositoryFormatError: it is not of this format, name or repository.
    """
    header, clear = _unpack_header(data, name, repository_id)
    box_at = len(clear) + SEAL_SIZE
    tag_at = box_at + header.body_size
    if len(data) != tag_at + POINT_TAG_SIZE:
        raise RepositoryFormatError(f"{name} has {len(data)} bytes, not as its header says")
    if object_tag("manifests", hash_key, memoryview(data)[:tag_at]) != data[tag_at:]:
        raise damaged(name)
    info = _scope(header).binding("manifest")
    key = open_key(data[len(clear) : box_at], metadata_private, info, what=name)
    body = open_box(key, 0, data[box_at:tag_at], info + b"\0" + clear, what=name)
    manifest = read_manifest(decompress_exact(body, header.plain_size), name, header.volume_id)
    return LoadedManifest(
        volume_id=header.volume_id, generation=header.generation, digest=digest(data),
        time_us=header.time_us, manifest=manifest, prev_digest=header.prev_digest,
    )  # fmt: skip


def read_manifest(plain: bytes, name: str, volume_id: str) -> Manifest:
    """Return the sealed part from its plain bytes.

    Raises:
        RepositoryFormatError: it is not of this format, or contradicts itself.
    """
    found = unpack_record(plain, Manifest, f"the body of {name}")
    listed = [point.seq for point in found.points]
    known = set(listed)
    others = ([e.seq for e in group] for group in (found.forgotten, found.holds, found.verified))
    for seqs in (listed, *others):
        if any(a >= b for a, b in itertools.pairwise(seqs)) or not known.issuperset(seqs):
            raise RepositoryFormatError(f"the points of {name} do not ascend or are not listed")
    for layer in found.layers:
        if parse_layer_name(layer.name) != (volume_id, layer.from_seq, layer.to_seq):
            raise RepositoryFormatError(f"{name} names a layer as what it is not")
        sizes = 0 < layer.tail_size <= layer.size < 1 << 63
        if not sizes or not 0 <= layer.from_seq < layer.to_seq or len(layer.tail_digest) != 32:
            raise RepositoryFormatError(f"{name} names a layer that cannot be")
    check_packs((pack for moved in found.moved for pack in moved.packs), name)
    check_packs((patch.to for patch in found.patches), name)
    if not all(map(_is_point, found.points)) or not all(map(_is_patch, found.patches)):
        raise RepositoryFormatError(f"{name} tells of points or patches that cannot be")
    times = [t for f in found.forgotten for t in (f.since_us, f.until_us)]
    times += [t for h in found.holds for t in (h.since_us, h.until_us)]
    times += [v.time_us for v in found.verified]
    if any(not 0 <= time_us <= TIME_US_MAX for time_us in times):
        raise RepositoryFormatError(f"{name} tells of times that cannot be")
    return found


def _is_point(entry: PointEntry) -> bool:
    sizes = (
        entry.size, entry.changed_bytes, entry.shipped_bytes, entry.stored_bytes,
        entry.mismatched_blocks,
    )  # fmt: skip
    is_named = POINT_ID.fullmatch(entry.point_id) is not None
    is_timed = 0 <= entry.time_us <= TIME_US_MAX
    return (
        is_named
        and is_timed
        and 1 <= entry.seq < 1 << 63
        and 0 <= min(sizes) <= max(sizes) < 1 << 63
    )


def _is_patch(patch: Patch) -> bool:
    is_known = patch.slot >= 0 and patch.to_slot >= 0 and 1 <= patch.count <= PACK_BLOCKS_MAX
    ends = patch.slot + patch.count, patch.to_slot + patch.count
    return is_known and ends[0] <= PACK_BLOCKS_MAX and ends[1] <= patch.to.blocks


def _unpack_header(data: bytes, name: str, repository_id: str) -> tuple[ManifestHeader, bytes]:
    header, clear = unpack_clear(data, name, magic=MAGIC, kind=ManifestHeader, what="a manifest")
    if header.repository_id != repository_id:
        raise RepositoryFormatError(f"{name} belongs to repository {header.repository_id[:40]}")
    if (header.volume_id, header.generation) != parse_manifest_name(name):
        raise RepositoryFormatError(f"{name} is not the manifest it is named as")
    if not 0 <= header.plain_size <= PLAIN_SIZE_MAX or not 0 <= header.body_size <= PLAIN_SIZE_MAX:
        raise RepositoryFormatError(f"{name} is beyond the limits")
    return header, clear


def _scope(header: ManifestHeader) -> Scope:
    return Scope(header.repository_id, header.volume_id, header.name)
