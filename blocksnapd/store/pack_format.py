"""A pack's tail: the table of what is in it, and the footer. Pure.

See FORMAT.md § 6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgspec
import numpy as np

from blocksnapd.blocks import runs_of
from blocksnapd.errors import RepositoryFormatError
from blocksnapd.model import HASH_SIZE, U8, U64
from blocksnapd.store.columns import pack_column, unpack_column
from blocksnapd.store.frames import FRAME_SIZE_MAX, FRAME_SUM_SIZE, sealed_size_max
from blocksnapd.store.records import pack_record, unpack_record
from blocksnapd.store.repack_format import Origins, RepackRecord, read_origins
from blocksnapd.store.runs import Runs
from blocksnapd.store.seal import (
    SEAL_SIZE,
    TAG_SIZE,
    Scope,
    close_box,
    open_box,
    open_key,
    seal_key,
)
from blocksnapd.store.tables import RunsPart, count_runs, pack_table, read_table

MAGIC = b"BSNPPACK"
FORMAT = 1
PACK_SIZE_MAX = 512 << 20
PACK_BLOCKS_MAX = 1 << 20
_FOOTER = struct.Struct("<80s80s16sQIIIII8xII8s")
FOOTER_SIZE = _FOOTER.size
_SIZES = (4096, 8192, 16384, 32768, 65536)


class IndexRecord(msgspec.Struct):
    """The plain index box, as bytes are made of it."""

    point_id: str
    seq: int
    blocks: list[RunsPart]
    identities: bytes
    frame_sizes: bytes
    zeros: list[RunsPart]
    frame_sums: bytes = b""
    repacked: RepackRecord | None = None


@dataclass(frozen=True, slots=True)
class Footer:
    """The clear end of a pack."""

    data_seal: bytes
    index_seal: bytes
    repository_id: str
    data_size: int
    index_size: int
    blocks: int
    frames: int
    block_size: int
    frame_blocks: int

    def pack(self) -> bytes:
        """Return the 228 bytes."""
        return _FOOTER.pack(
            self.data_seal, self.index_seal, bytes.fromhex(self.repository_id), self.data_size,
            self.index_size, self.blocks, self.frames, self.block_size,
            self.frame_blocks, FORMAT, FOOTER_SIZE, MAGIC,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class PackIndex:
    """What a pack holds: ``blocks[s]`` and ``identities[s]`` of each slot, where frames start.

    ``offsets`` has one entry more than there are frames. ``frame_sums`` are those of the sealed
    frames, none in packs of early writers. Shapes (slots,), (slots, 16), (frames, 8) or (0, 8).
    ``zeros`` stays packed: nothing bounds how many runs it claims, and only a rescue reads it.
    """

    point_id: str
    seq: int
    block_size: int
    frame_blocks: int
    blocks: Runs
    zeros: list[RunsPart]
    identities: U8
    offsets: U64
    frame_sums: U8
    origins: Origins | None = None

    @property
    def slots(self) -> int:
        """Blocks in the pack."""
        return len(self.identities)

    def frame_size(self, frame: int) -> int:
        """Return the bytes of blocks in a frame: less for the last, or for any if repacked."""
        if self.origins is not None:
            return int(self.origins.counts[frame]) * self.block_size
        each = self.frame_blocks
        return min(each, self.slots - frame * each) * self.block_size


def pack_tail(
    scope: Scope,
    *,
    record: IndexRecord,
    data_key: bytes,
    index_key: bytes,
    data_public: bytes,
    metadata_public: bytes,
    data_size: int,
    frames: int,
    block_size: int,
    frame_blocks: int,
    slots: int | None = None,
) -> bytes:
    """Return index box and footer; a repacked pack may have more ``slots`` than blocks."""
    plain = pack_record(record)
    footer = Footer(
        data_seal=seal_key(data_key, data_public, scope.binding("frame")),
        index_seal=seal_key(index_key, metadata_public, scope.binding("pack-index")),
        repository_id=scope.repository_id,
        data_size=data_size,
        index_size=len(plain) + TAG_SIZE,
        blocks=len(record.identities) // HASH_SIZE if slots is None else slots,
        frames=frames,
        block_size=block_size,
        frame_blocks=frame_blocks,
    ).pack()
    return close_box(index_key, 0, plain, scope.binding("pack-index") + footer) + footer


def index_record(
    point_id: str,
    seq: int,
    blocks: U64,
    identities: U8,
    frame_sizes: list[int],
    zeros: Runs,
    frame_sums: bytes = b"",
) -> IndexRecord:
    """Return the index of a pack whose slots hold ``blocks``, ascending."""
    starts, lengths = runs_of(blocks)
    return IndexRecord(
        point_id=point_id,
        seq=seq,
        blocks=pack_table(Runs.zeros(starts, lengths), located=False),
        identities=identities.tobytes(),
        frame_sizes=pack_column(np.array(frame_sizes, dtype=np.uint64)),
        zeros=pack_table(zeros, located=False),
        frame_sums=frame_sums,
    )


def unpack_footer(data: bytes, scope: Scope) -> Footer:
    """Return the footer that ``data`` ends with.

    Raises:
        RepositoryFormatError: there is none, it is of another repository, or its numbers are
            beyond the limits of FORMAT.md § 9.
    """
    if len(data) < FOOTER_SIZE or data[-8:] != MAGIC:
        raise RepositoryFormatError(f"{scope.name} does not end like a pack")
    values = _FOOTER.unpack(data[-FOOTER_SIZE:])
    footer = Footer(values[0], values[1], values[2].hex(), *values[3:9])
    if values[9:11] != (FORMAT, FOOTER_SIZE):
        raise RepositoryFormatError(f"{scope.name} is a pack of format {values[9]}, not {FORMAT}")
    if footer.repository_id != scope.repository_id:
        raise RepositoryFormatError(f"{scope.name} belongs to repository {footer.repository_id}")
    if footer.block_size not in _SIZES:
        raise RepositoryFormatError(f"{scope.name} has blocks of {footer.block_size} bytes")
    if not 1 <= footer.frame_blocks <= FRAME_SIZE_MAX // footer.block_size:
        raise RepositoryFormatError(f"{scope.name} has frames of {footer.frame_blocks} blocks")
    frames = -(-footer.blocks // footer.frame_blocks)
    if not 1 <= footer.blocks <= PACK_BLOCKS_MAX or footer.frames != frames:
        raise RepositoryFormatError(
            f"{scope.name} claims {footer.blocks} blocks in {footer.frames} frames"
        )
    return footer


def unpack_tail(tail: bytes, scope: Scope, metadata_private: bytes) -> tuple[PackIndex, Footer]:
    """Return what a pack holds, from its tail.

    Raises:
        ChecksumError: the tail is not what was written. RepositoryFormatError: it was written
            so, but is not of this format.
    """
    footer = unpack_footer(tail, scope)
    if len(tail) != footer.index_size + FOOTER_SIZE:
        raise RepositoryFormatError(f"the tail of {scope.name} has {len(tail)} bytes")
    what, info = f"the index of {scope.name}", scope.binding("pack-index")
    key = open_key(footer.index_seal, metadata_private, info, what=what)
    aad = info + tail[-FOOTER_SIZE:]
    plain = open_box(key, 0, memoryview(tail)[:-FOOTER_SIZE], aad, what=what)
    return read_index(plain, footer, scope.name, scope.volume_id), footer


def read_index(plain: bytes, footer: Footer, name: str, volume_id: str = "") -> PackIndex:
    """Return the index box's content, checked against the footer; ``volume_id``: if repacked.

    Raises:
        RepositoryFormatError: it does not fit.
    """
    record = unpack_record(plain, IndexRecord, f"the index of {name}")
    if count_runs(record.blocks) > footer.blocks:
        raise RepositoryFormatError(f"the index of {name} lists more runs than it has blocks")
    blocks = read_table(record.blocks, located=False)
    origins, count = None, footer.blocks
    if record.repacked is not None:
        origins = read_origins(
            record.repacked, volume_id=volume_id, frames=footer.frames,
            frame_blocks=footer.frame_blocks, slots=footer.blocks, name=name,
        )  # fmt: skip
        count = len(origins.here)
    if len(record.identities) != HASH_SIZE * count or (
        blocks.blocks != footer.blocks and origins is None
    ):
        raise RepositoryFormatError(f"the index of {name} does not list {footer.blocks} blocks")
    identities = np.frombuffer(record.identities, dtype=np.uint8).reshape(-1, HASH_SIZE)
    if origins is not None:
        spread = np.zeros((footer.blocks, HASH_SIZE), dtype=np.uint8)
        spread[origins.here] = identities
        identities = spread
    sizes = unpack_column(record.frame_sizes, footer.frames)
    if (sizes > sealed_size_max(footer.block_size, footer.frame_blocks)).any():
        raise RepositoryFormatError(f"the index of {name} has a frame beyond the limit")
    offsets = np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes, dtype=np.uint64)])
    if int(offsets[-1]) != footer.data_size:
        raise RepositoryFormatError(f"the frames of {name} do not add up")
    if len(record.frame_sums) not in (0, FRAME_SUM_SIZE * footer.frames):
        raise RepositoryFormatError(f"the index of {name} has sums of other frames")
    return PackIndex(
        point_id=record.point_id,
        seq=record.seq,
        block_size=footer.block_size,
        frame_blocks=footer.frame_blocks,
        blocks=blocks,
        zeros=record.zeros,
        identities=identities,
        offsets=offsets,
        frame_sums=np.frombuffer(record.frame_sums, dtype=np.uint8).reshape(-1, FRAME_SUM_SIZE),
        origins=origins,
    )


assert SEAL_SIZE == 80 and FOOTER_SIZE == 228  # what FORMAT.md says  # noqa: PT018
