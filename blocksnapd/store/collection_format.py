"""Collections as bytes: what is about to be deleted, and the proof that it was. Pure.

    BSNCOLLE | u32 1 | u32 plain size | zstd of the record | tag (32)

See FORMAT.md § 13. Neither is sealed: a source, which can open nothing, must read them before and
after it commits. The tag makes them genuine to a holder of the hash key.
"""

from __future__ import annotations

import struct

import msgspec

from blocksnapd.errors import FormatError, RepositoryFormatError
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.names import (
    condemned_name,
    done_name,
    parse_collection_name,
    parse_layer_name,
    parse_manifest_name,
    parse_pack_name,
    parse_point_name,
)
from blocksnapd.store.records import pack_record, unpack_record
from blocksnapd.store.seal import POINT_TAG_SIZE, damaged, object_tag

MAGIC = b"BSNCOLLE"
FORMAT = 1
NAMES_MAX = 1 << 18
PLAIN_SIZE_MAX = 1 << 26
COLLECTION_SIZE_MAX = PLAIN_SIZE_MAX + 4096
_PREFIX = struct.Struct("<8sII")
_EPOCH_MAX = 1 << 63


class Condemned(msgspec.Struct, frozen=True, tag="cond", tag_field="kind"):
    """The names that collection ``epoch`` will delete unless a later point needs one.

    ``generation`` and ``newest_seq`` are the manifest and the newest point that its mark has seen.
    ``packs`` and ``points`` hold nothing that any listed point needs; what ``replaced`` (packs)
    holds is, as far as it lives, in the packs that the manifest's ``moved`` tells.
    """

    repository_id: str
    volume_id: str
    epoch: int
    time_us: int
    generation: int
    newest_seq: int
    packs: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The object's name."""
        return condemned_name(self.volume_id, self.epoch)

    @property
    def names(self) -> tuple[str, ...]:
        """All it condemns, points after the packs and layers that may have replaced them."""
        return (
            *self.packs, *self.replaced, *self.layers, *self.points, *self.manifests,
            *self.collections,
        )  # fmt: skip


class Done(msgspec.Struct, frozen=True, tag="done", tag_field="kind"):
    """Collection ``epoch`` deleted ``count`` objects of ``size`` bytes and let ``spared`` be."""

    repository_id: str
    volume_id: str
    epoch: int
    time_us: int
    newest_seq: int
    count: int = 0
    size: int = 0
    spared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The object's name."""
        return done_name(self.volume_id, self.epoch)


def pack_collection(record: Condemned | Done, hash_key: bytes) -> bytes:
    """Return the object."""
    plain = pack_record(record)
    data = _PREFIX.pack(MAGIC, FORMAT, len(plain)) + compress(plain)
    return data + object_tag("collections", hash_key, data)


def unpack_collection(
    data: bytes, name: str, repository_id: str, hash_key: bytes
) -> Condemned | Done:
    """Return the list or proof in ``data``, genuine and whole.

    Raises:
        ChecksumError: a bit of it is not what was written.
        RepositoryFormatError: it is not of this format, name or repository.
    """
    if len(data) < _PREFIX.size + POINT_TAG_SIZE or data[:8] != MAGIC:
        raise RepositoryFormatError(f"{name} is not of a collection: its bytes are another's")
    _, version, size = _PREFIX.unpack_from(data)
    if version != FORMAT:
        raise RepositoryFormatError(
            f"{name} is a collection of format {version}, this program reads {FORMAT}",
            hint="Use a newer blocksnapd.",
        )
    if object_tag("collections", hash_key, memoryview(data)[:-32]) != data[-POINT_TAG_SIZE:]:
        raise damaged(name)
    if size > PLAIN_SIZE_MAX:
        raise RepositoryFormatError(f"{name} is beyond the limits")
    plain = decompress_exact(memoryview(data)[_PREFIX.size : -POINT_TAG_SIZE], size)
    return read_collection(plain, name, repository_id)


def read_collection(plain: bytes, name: str, repository_id: str) -> Condemned | Done:
    """Return the list or proof from its plain bytes.

    Raises:
        RepositoryFormatError: it is not of this format, name or repository, or it condemns
            anything but objects of its own volume.
    """
    what = f"the collection {name}"
    found: Condemned | Done = unpack_record(plain, Condemned | Done, what)  # type: ignore[arg-type]
    if found.repository_id != repository_id:
        raise RepositoryFormatError(f"{name} belongs to repository {found.repository_id[:40]}")
    kind = "cond" if isinstance(found, Condemned) else "done"
    if (found.volume_id, found.epoch, kind) != parse_collection_name(name):
        raise RepositoryFormatError(f"{name} is not the collection it is named as")
    numbers = (found.epoch, found.newest_seq, found.time_us)
    if not 1 <= found.epoch < _EPOCH_MAX or min(numbers) < 0:
        raise RepositoryFormatError(f"{name} says what cannot be")
    if isinstance(found, Condemned):
        _check_names(found, name)
    elif len(found.spared) > NAMES_MAX:
        raise RepositoryFormatError(f"{name} spares more than {NAMES_MAX} objects")
    return found


def _check_names(found: Condemned, name: str) -> None:
    if len(found.names) > NAMES_MAX:
        raise RepositoryFormatError(f"{name} condemns more than {NAMES_MAX} objects")
    try:
        volumes = {parse_pack_name(n).volume_id for n in (*found.packs, *found.replaced)}
        volumes |= {parse_point_name(n).volume_id for n in found.points}
        volumes |= {parse_layer_name(n).volume_id for n in found.layers}
        volumes |= {parse_manifest_name(n)[0] for n in found.manifests}
        volumes |= {parse_collection_name(n)[0] for n in found.collections}
    except FormatError as error:
        raise RepositoryFormatError(f"{name} condemns what it cannot: {error.message}") from error
    if volumes - {found.volume_id}:
        raise RepositoryFormatError(f"{name} condemns objects of another volume")
