"""How the source remembers a pack: a short record that only this package understands. Pure.

Names are kept without what all packs of a volume have in common, digests as raw bytes: the source
keeps one record for each pack that its newest point may need.
"""

from __future__ import annotations

import msgspec

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.names import volume_prefix
from blocksnapd.store.pack_format import FOOTER_SIZE, PACK_BLOCKS_MAX, PACK_SIZE_MAX
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.records import pack_record, unpack_record

RECORD_SIZE_MAX = 224
_DIGEST_SIZE = 32


class _Record(msgspec.Struct, frozen=True, array_like=True):
    name: str
    size: int
    digest: bytes
    tail_size: int
    tail_digest: bytes
    blocks: int
    holder: str
    offset: int


def pack_ref_record(ref: PackRef, volume_id: str) -> bytes:
    """Return at most ``RECORD_SIZE_MAX`` bytes that ``unpack_ref_record`` makes ``ref`` of."""
    prefix = volume_prefix(volume_id)
    assert ref.name.startswith(prefix)
    assert ref.holder == "" or ref.holder.startswith(prefix)
    record = pack_record(
        _Record(
            name=ref.name.removeprefix(prefix), size=ref.size,
            digest=bytes.fromhex(ref.digest), tail_size=ref.tail_size,
            tail_digest=bytes.fromhex(ref.tail_digest), blocks=ref.blocks,
            holder=ref.holder.removeprefix(prefix), offset=ref.offset,
        )
    )  # fmt: skip
    assert len(record) <= RECORD_SIZE_MAX
    return record


def unpack_ref_record(data: bytes, volume_id: str) -> PackRef:
    """Return the pack that a record tells of.

    Raises:
        RepositoryFormatError: it is not such a record.
    """
    record = unpack_record(data, _Record, "the record of a pack")
    digests = len(record.digest) == len(record.tail_digest) == _DIGEST_SIZE
    sizes = FOOTER_SIZE < record.tail_size <= record.size <= PACK_SIZE_MAX and record.offset >= 0
    if not digests or not sizes or not 1 <= record.blocks <= PACK_BLOCKS_MAX or not record.name:
        raise RepositoryFormatError("the record of a pack says what cannot be")
    prefix = volume_prefix(volume_id)
    return PackRef(
        name=prefix + record.name, size=record.size, digest=record.digest.hex(),
        tail_size=record.tail_size, tail_digest=record.tail_digest.hex(), blocks=record.blocks,
        holder=prefix + record.holder if record.holder else "", offset=record.offset,
    )  # fmt: skip
