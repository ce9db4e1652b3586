"""What a repacked pack tells of where its blocks were first written. Pure.

Layers name a block's first place for ever. A repacked pack therefore keeps, per slot, that place:
the *origin*. Frames that were copied as they were stay sealed under the key of the pack they were
made for, and its name and their number there are what they are bound to; a source tells both.
See FORMAT.md § 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.errors import FormatError, RepositoryFormatError
from blocksnapd.store.columns import pack_column, unpack_column
from blocksnapd.store.names import parse_pack_name
from blocksnapd.store.seal import SEAL_SIZE

if TYPE_CHECKING:
    from blocksnapd.model import U64

SOURCES_MAX = 1 << 16
_SLOT_MAX = 1 << 20


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A pack that some of the blocks come from, and its data key, sealed as in its own footer."""

    name: str
    data_seal: bytes


class RepackRecord(msgspec.Struct, frozen=True):
    """What an index box has besides, columns: three per frame, three per block.

    ``keys``: 0 for the pack's own key, else the number of a source, from 1; ``numbers`` are those
    that frames are bound to; ``counts`` their blocks. ``origins`` are numbers of sources, from 0,
    ``slots`` those in them, ``blocks`` the numbers of blocks when they were written.
    """

    sources: list[Source]
    keys: bytes
    numbers: bytes
    counts: bytes
    origins: bytes
    slots: bytes
    blocks: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """A ``RepackRecord`` taken apart.

    Shapes (frames,) for ``keys``, ``numbers``, ``counts``; (blocks,) for ``origins``, ``slots``,
    ``blocks`` and ``here``, which are the blocks' slots in the repacked pack, ascending.
    """

    sources: tuple[Source, ...]
    keys: U64
    numbers: U64
    counts: U64
    origins: U64
    slots: U64
    blocks: U64
    here: U64


def pack_origins(found: Origins) -> RepackRecord:
    """Return the record; ``here`` follows from the counts."""
    return RepackRecord(
        sources=list(found.sources), keys=pack_column(found.keys),
        numbers=pack_column(found.numbers), counts=pack_column(found.counts),
        origins=pack_column(found.origins), slots=pack_column(found.slots),
        blocks=pack_column(found.blocks),
    )  # fmt: skip


def read_origins(
    record: RepackRecord, *, volume_id: str, frames: int, frame_blocks: int, slots: int, name: str
) -> Origins:
    """Return what a record tells, checked.

    Args:
        record: from the index box.
        volume_id: whose pack it is.
        frames: how many there are.
        frame_blocks: the most that a frame holds.
        slots: of the pack, those that are left free in frames among them.
        name: of the pack, for errors.

    Raises:
        RepositoryFormatError: it does not fit.
    """
    counts = unpack_column(record.counts, frames)
    if not 1 <= len(record.sources) <= SOURCES_MAX or (counts - np.uint64(1) >= frame_blocks).any():
        raise RepositoryFormatError(f"{name} has frames or sources beyond the limits")
    here = slots_here(counts, frame_blocks)
    if int(here[-1]) + 1 != slots:
        raise RepositoryFormatError(f"{name} does not have as many slots as it says")
    found = Origins(
        sources=tuple(record.sources), keys=unpack_column(record.keys, frames),
        numbers=unpack_column(record.numbers, frames), counts=counts,
        origins=unpack_column(record.origins, len(here)),
        slots=unpack_column(record.slots, len(here)),
        blocks=unpack_column(record.blocks, len(here)), here=here,
    )  # fmt: skip
    known = np.uint64(len(record.sources))
    if (
        (found.keys > known).any()
        or (found.origins >= known).any()
        or (found.slots >= _SLOT_MAX).any()
    ):
        raise RepositoryFormatError(f"{name} speaks of sources that it does not name")
    _check_sources(found.sources, volume_id, name)
    return found


def slots_here(counts: U64, frame_blocks: int) -> U64:
    """Return the slots of all blocks: frame × ``frame_blocks`` + position in the frame."""
    lengths = counts.astype(np.intp)
    heads = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(heads, lengths)
    firsts = np.arange(len(lengths)) * frame_blocks
    return (np.repeat(firsts, lengths) + within).astype(np.uint64)


def _check_sources(sources: tuple[Source, ...], volume_id: str, name: str) -> None:
    for source in sources:
        try:
            volume = parse_pack_name(source.name).volume_id
        except FormatError as error:
            raise RepositoryFormatError(f"{name} has a source that is no pack") from error
        if volume != volume_id or len(source.data_seal) != SEAL_SIZE:
            raise RepositoryFormatError(f"{name} has a source of another volume, or without key")
    if len({source.name for source in sources}) != len(sources):
        raise RepositoryFormatError(f"{name} has a source twice")
