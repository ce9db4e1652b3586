"""A point object's bytes. Pure.

    BSNPOINT | u32 1 | u32 header size | header | seal | body box | inline pack | tag

See FORMAT.md § 7. The header is clear, so that a source finds its newest point without a
private key; the tag makes it, and everything, genuine to a holder of the hash key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.model import Kind, Method, PointFacts, PointHead, Proof
from blocksnapd.store.clear import pack_clear, unpack_clear
from blocksnapd.store.names import parse_point_name, point_name
from blocksnapd.store.pack_format import FOOTER_SIZE, PACK_BLOCKS_MAX, PACK_SIZE_MAX
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
    open_box,
    open_key,
    point_tag,
    seal_key,
)
from blocksnapd.store.tables import RunsPart  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"BSNPOINT"
POINT_SIZE_MAX = (1 << 31) - 1
BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_US_MAX = 253_402_300_799_000_000  # the end of year 9999


class Header(msgspec.Struct, frozen=True):
    """The clear part; ``epoch`` is the last collection its writer had seen."""

    repository_id: str
    volume_id: str
    seq: int
    point_id: str
    prev_name: str
    prev_digest: str
    kind: Kind
    time_us: int
    size: int
    block_size: int
    state_sum: str
    body_size: int = 0
    inline_size: int = 0
    epoch: int = 0

    @property
    def name(self) -> str:
        """The object's name."""
        return point_name(self.volume_id, self.seq, self.point_id)

    @property
    def blocks(self) -> int:
        """Blocks of the image, the last one perhaps partial."""
        return -(-self.size // self.block_size)

    def head(self, digest_: str) -> PointHead:
        """Return what a source goes on from."""
        return PointHead(
            name=self.name, digest=digest_, seq=self.seq, point_id=self.point_id,
            time=from_us(self.time_us), size=self.size, block_size=self.block_size,
            state_sum=int(self.state_sum, 16),
        )  # fmt: skip


class ProofRecord(msgspec.Struct, frozen=True):
    """``model.Proof`` as bytes are made of it."""

    checked_blocks: int = 0
    mismatched_blocks: int = 0
    ranges: list[tuple[int, int]] = []


class PackRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pack as a point names it; ``holder`` is the point whose bytes it lies in, from ``offset``.

    Without ``holder`` it is an object of its own (or the inline pack of the point itself).
    """

    name: str
    size: int
    digest: str
    tail_size: int
    tail_digest: str
    blocks: int
    holder: str = ""
    offset: int = 0


class Body(msgspec.Struct, frozen=True):
    """The sealed part."""

    volume_name: str
    method: Method
    driver: str
    consistency: str
    reason: str
    tags: list[str]
    chunk_size: int
    changed_bytes: int
    shipped_bytes: int
    proof: ProofRecord
    packs: list[PackRef]
    data: list[RunsPart]
    zeros: list[RunsPart]
    deduplicated_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PointObject:
    """A point's bytes taken apart; ``inline_at`` is where its inline pack starts."""

    header: Header
    clear: bytes
    seal: bytes
    box: bytes
    inline_at: int
    digest: str
    size: int

    @property
    def head(self) -> PointHead:
        """What a source goes on from."""
        return self.header.head(self.digest)


def to_us(time: datetime) -> int:
    """Return microseconds since 1970 UTC."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """Return the aware UTC time."""
    return _EPOCH + timedelta(microseconds=time_us)


def pack_point(
    header: Header,
    body: Body,
    inline: Iterable[bytes],
    *,
    metadata_public: bytes,
    hash_key: bytes,
) -> bytes:
    """Return the point's object. ``header`` comes without the two sizes."""
    plain, pack = pack_record(body), b"".join(inline)
    header = msgspec.structs.replace(header, body_size=len(plain) + TAG_SIZE, inline_size=len(pack))
    clear, info = pack_clear(MAGIC, header), _scope(header).binding("point")
    key = new_key()
    seal = seal_key(key, metadata_public, info)
    box = close_box(key, 0, plain, info + b"\0" + clear)
    data = b"".join([clear, seal, box, pack])
    return data + point_tag(hash_key, data)


def unpack_header(data: bytes, name: str, repository_id: str) -> tuple[Header, bytes]:
    """Return the header at the start of ``data`` and the clear bytes; not yet authenticated.

    Raises:
        RepositoryFormatError: it is not the header of a point of that name and repository.
    """
    header, clear = unpack_clear(data, name, magic=MAGIC, kind=Header, what="a point")
    _check_header(header, name, repository_id)
    return header, clear


def unpack_point(data: bytes, name: str, repository_id: str, hash_key: bytes) -> PointObject:
    """Return a point's object taken apart, genuine and whole.

    Raises:
        ChecksumError: a bit of it is not what was written.
        RepositoryFormatError: it is not of this format, name or repository.
    """
    header, clear = unpack_header(data, name, repository_id)
    box_at = len(clear) + SEAL_SIZE
    inline_at = box_at + header.body_size
    tag_at = inline_at + header.inline_size
    if len(data) != tag_at + POINT_TAG_SIZE:
        raise RepositoryFormatError(f"{name} has {len(data)} bytes, not as its header says")
    if point_tag(hash_key, memoryview(data)[:tag_at]) != data[tag_at:]:
        raise damaged(name)
    return PointObject(
        header=header, clear=clear, seal=data[len(clear) : box_at], box=data[box_at:inline_at],
        inline_at=inline_at, digest=digest(data), size=len(data),
    )  # fmt: skip


def salvage_point(data: bytes, name: str, repository_id: str, digest_: str) -> PointObject:
    """Return a point whose inline pack or tag is damaged, taken apart; nothing of it is proven.

    ``open_body`` proves header and body, which are sealed together: no thief knows the key that it
    takes. The pack is checked frame by frame by who reads it. ``digest_`` is what the next point
    calls the whole.

    Raises:
        RepositoryFormatError: header or body are not there.
    """
    header, clear = unpack_header(data, name, repository_id)
    box_at = len(clear) + SEAL_SIZE
    inline_at = box_at + header.body_size
    if len(data) < inline_at:
        raise RepositoryFormatError(f"{name} ends within its body")
    return PointObject(
        header=header, clear=clear, seal=data[len(clear) : box_at], box=data[box_at:inline_at],
        inline_at=inline_at, digest=digest_, size=len(data),
    )  # fmt: skip


def open_body(point: PointObject, metadata_private: bytes) -> Body:
    """Return the sealed part.

    Raises:
        ChecksumError: it does not open. RepositoryFormatError: it is not of this format.
    """
    name, info = point.header.name, _scope(point.header).binding("point")
    key = open_key(point.seal, metadata_private, info, what=name)
    return read_body(open_box(key, 0, point.box, info + b"\0" + point.clear, what=name), name)


def read_body(plain: bytes, name: str) -> Body:
    """Return the sealed part from its plain bytes.

    Raises:
        RepositoryFormatError: it is not of this format.
    """
    body = unpack_record(plain, Body, f"the body of {name}")
    check_packs(body.packs, name)
    return body


def check_packs(packs: Iterable[PackRef], what: str) -> None:
    """Make sure that the sizes of ``packs`` may be.

    Raises:
        RepositoryFormatError: one is beyond the limits; ``what`` names it.
    """
    for pack in packs:
        sizes = FOOTER_SIZE < pack.tail_size <= pack.size <= PACK_SIZE_MAX
        if not sizes or not 1 <= pack.blocks <= PACK_BLOCKS_MAX or pack.offset < 0:
            raise RepositoryFormatError(f"{what} names a pack beyond the limits: {pack.name[:80]}")


def facts_of(header: Header, body: Body) -> PointFacts:
    """Return what the source said of the point."""
    proof = body.proof
    return PointFacts(
        volume_id=header.volume_id, volume_name=body.volume_name, point_id=header.point_id,
        time=from_us(header.time_us), size=header.size, block_size=header.block_size,
        kind=header.kind, method=body.method, driver=body.driver, consistency=body.consistency,
        chunk_size=body.chunk_size, changed_bytes=body.changed_bytes,
        state_sum=int(header.state_sum, 16), reason=body.reason,
        proof=Proof(proof.checked_blocks, proof.mismatched_blocks, tuple(proof.ranges)),
        tags=tuple(body.tags),
    )  # fmt: skip


def _scope(header: Header) -> Scope:
    return Scope(header.repository_id, header.volume_id, header.name)


def _check_header(header: Header, name: str, repository_id: str) -> None:
    if header.repository_id != repository_id:
        raise RepositoryFormatError(f"{name} belongs to repository {header.repository_id[:40]}")
    said = parse_point_name(name)
    if (header.volume_id, header.seq, header.point_id) != said:
        raise RepositoryFormatError(f"{name} is not the point it is named as")
    numbers = (
        header.block_size in BLOCK_SIZES
        and 0 <= header.size < 1 << 63
        and 0 <= header.time_us <= TIME_US_MAX
        and 0 <= header.body_size <= POINT_SIZE_MAX
        and 0 <= header.inline_size <= POINT_SIZE_MAX
        and 0 <= header.epoch < 1 << 63
    )
    is_sum = len(header.state_sum) == 32 and set(header.state_sum) <= set("0123456789abcdef")
    first = header.prev_name == ""
    if not numbers or not is_sum or first != (header.seq == 1) or (first and header.kind != "full"):
        raise RepositoryFormatError(f"the header of {name} says what cannot be")
    if not first and parse_point_name(header.prev_name)[:2] != (said.volume_id, said.seq - 1):
        raise RepositoryFormatError(f"{name} does not follow the point before it")
