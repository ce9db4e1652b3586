"""The packs that a layer object names, in boxes of a thousand or so. Pure.

See FORMAT.md § 11. Digests are random and names nearly so: about 110 bytes a pack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.columns import pack_column, unpack_column
from blocksnapd.store.compression import compress, decompress_exact
from blocksnapd.store.pack_format import FOOTER_SIZE, PACK_BLOCKS_MAX, PACK_SIZE_MAX
from blocksnapd.store.point_format import PackRef
from blocksnapd.store.records import pack_record, unpack_record

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST_SIZE = 32


class PackTable(msgspec.Struct):
    """``PackRef`` values, column by column."""

    names: list[str]
    holders: list[str]
    sizes: bytes
    tail_sizes: bytes
    blocks: bytes
    offsets: bytes
    digests: bytes


def pack_refs(refs: list[PackRef]) -> tuple[bytes, int]:
    """Return the compressed bytes of a table, and its size before."""

    def column(values: Iterable[int]) -> bytes:
        return pack_column(np.array(list(values), dtype=np.uint64))

    digests = b"".join(bytes.fromhex(d) for ref in refs for d in (ref.digest, ref.tail_digest))
    plain = pack_record(
        PackTable(
            names=[ref.name for ref in refs],
            holders=[ref.holder for ref in refs],
            sizes=column(ref.size for ref in refs),
            tail_sizes=column(ref.tail_size for ref in refs),
            blocks=column(ref.blocks for ref in refs),
            offsets=column(ref.offset for ref in refs),
            digests=digests,
        )
    )
    return compress(plain), len(plain)


def unpack_refs(data: bytes, plain_size: int, count: int, what: str) -> list[PackRef]:
    """Return the ``count`` packs of a table.

    Raises:
        RepositoryFormatError: it is no such table, or names a pack beyond the limits. Memory is
            bounded by ``plain_size`` and ``count``.
    """
    table = unpack_record(decompress_exact(data, plain_size), PackTable, what)
    lengths = {len(table.names), len(table.holders), len(table.digests) // (2 * DIGEST_SIZE)}
    if lengths != {count} or len(table.digests) % (2 * DIGEST_SIZE):
        raise RepositoryFormatError(f"{what} does not name {count} packs")
    columns = [
        unpack_column(column, count).tolist()
        for column in (table.sizes, table.tail_sizes, table.blocks, table.offsets)
    ]
    size = DIGEST_SIZE
    digests = [table.digests[at : at + size].hex() for at in range(0, len(table.digests), size)]
    refs = [
        PackRef(
            name=name, size=size, digest=digest, tail_size=tail_size, tail_digest=tail_digest,
            blocks=blocks, holder=holder, offset=offset,
        )
        for name, holder, size, tail_size, blocks, offset, digest, tail_digest in zip(
            table.names, table.holders, *columns, digests[::2], digests[1::2], strict=True
        )
    ]  # fmt: skip
    for ref in refs:
        sizes = FOOTER_SIZE < ref.tail_size <= ref.size <= PACK_SIZE_MAX
        if not sizes or not 1 <= ref.blocks <= PACK_BLOCKS_MAX or ref.offset >= 1 << 63:
            raise RepositoryFormatError(f"{what} names a pack beyond the limits: {ref.name[:80]}")
    return refs
