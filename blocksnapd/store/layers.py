"""Layers as spans that are read by pieces, and where the packs of points are. Pure.

See FORMAT.md §§ 7 and 11. A map is runs (``runs.py``), so that memory goes with how scattered the
changes are, not with the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.model import U64
    from blocksnapd.store.layer_format import LayerHead
    from blocksnapd.store.point_format import Body, Header, PackRef


class Span(Protocol):
    """A layer that can be read piece by piece: a point's own, or a merged one. Thread-safe."""

    @property
    def name(self) -> str:
        """The object it is read from."""

    @property
    def head(self) -> LayerHead:
        """Between which points it lies, and what it tells."""

    @property
    def packs(self) -> int:
        """How many packs its locations count in."""

    def marks(self) -> tuple[U64, U64, U64]:
        """Return where its parts begin, ascending, where each ends at most, and its runs."""

    def runs(self, first: int, end: int) -> Runs:
        """Return what it says of the blocks ``first`` up to but without ``end``.

        Raises:
            ChecksumError, RepositoryFormatError: it is damaged. StoreError: the place failed.
        """

    def total(self) -> int:
        """Return the sum of all its entries, see ``entry_sum``; packs weigh as ``pack_weight``."""

    def places(self, pack: int) -> tuple[int, list[PackPlace]]:
        """Return the stretch of its packs that ``pack`` is in: the first one's index, and all."""


@dataclass(frozen=True, slots=True)
class PackPlace:
    """Where a pack's bytes are: an object of its own, or within the point ``holder``."""

    ref: PackRef
    volume_id: str
    block_size: int
    holder: str
    offset: int


def pack_places(header: Header, body: Body, inline_at: int) -> list[PackPlace]:
    """Return where the packs of a point are.

    Raises:
        RepositoryFormatError: the inline pack is not as large as said.
    """
    places = [
        PackPlace(pack, header.volume_id, header.block_size, pack.holder or pack.name, pack.offset)
        for pack in body.packs
    ]
    if header.inline_size:
        if not places or places[-1].ref.size != header.inline_size:
            raise RepositoryFormatError(f"{header.name} holds a pack that it does not name")
        last = places[-1].ref
        places[-1] = PackPlace(last, header.volume_id, header.block_size, header.name, inline_at)
    return places


def renumbered(runs: Runs, numbers: U64) -> Runs:
    """Return ``runs`` with pack ``i`` of their locations called ``numbers[i]``."""
    locations = runs.locations.copy()
    has = locations != ZERO
    places = locations[has]
    locations[has] = numbers[places >> SLOT_BITS] << SLOT_BITS | places & SLOT_MASK
    return Runs(runs.starts, runs.lengths, locations)


def floors(heads: Sequence[tuple[int, int]], blocks: int) -> list[int]:
    """Return from which block on each layer of a chain tells everything.

    Args:
        heads: blocks and own floor of each layer, oldest first.
        blocks: of the image that the oldest one is laid over.
    """
    found = []
    for own_blocks, floor in heads:
        found.append(min(floor, blocks))
        blocks = own_blocks
    return found
