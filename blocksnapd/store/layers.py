"""A point's layer, checked; and the map that a chain of points adds up to. Pure.

See FORMAT.md § 7. A map is runs (``runs.py``), so that opening a point costs memory by how
scattered the changes are, not by the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.runs import ZERO, Runs, interleave, is_ascending, overlay
from blocksnapd.store.tables import check_locations, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.store.point_format import Body, Header, PackRef


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What one point says: runs of content and zeros, and how many blocks its image has."""

    runs: Runs
    blocks: int


@dataclass(frozen=True, slots=True)
class PackPlace:
    """Where a pack's bytes are: an object of its own, or within the point ``holder``."""

    ref: PackRef
    volume_id: str
    block_size: int
    holder: str
    offset: int


def check_layer(header: Header, body: Body) -> Layer:
    """Return the layer of a point; its locations count in the point's own packs.

    Raises:
        RepositoryFormatError: runs overlap, lie outside the image, or point outside the packs.
    """
    data = read_table(body.data, located=True)
    slots = np.array([pack.blocks for pack in body.packs], dtype=np.uint64)
    check_locations(data, slots)
    zeros = read_table(body.zeros, located=False)
    runs = interleave(data, zeros)
    outside = len(runs) and int(runs.ends[-1]) > header.blocks
    if outside or not is_ascending(runs.starts, runs.lengths):
        raise RepositoryFormatError(f"the layer of {header.name} overlaps, or passes the end")
    return Layer(runs, header.blocks)


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


def relocate(runs: Runs, first_pack: int) -> Runs:
    """Return ``runs`` with pack indexes that count from ``first_pack``."""
    moved = runs.locations + np.uint64(first_pack << 32)
    return Runs(runs.starts, runs.lengths, np.where(runs.locations == ZERO, ZERO, moved))


def flatten(layers: Sequence[Layer]) -> Runs:
    """Return the content that ``layers``, oldest to newest, the first full, add up to.

    Neighbours are merged pairwise, so that every run is moved log2(layers) times, not once for
    each layer above it.
    """
    level = list(layers)
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [_over(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0].runs.content()


def _over(older: Layer, newer: Layer) -> Layer:
    # An image that ended earlier holds nothing beyond, also for those who grow it again.
    kept = older.runs.cut(0, newer.blocks)
    if newer.blocks > older.blocks:
        grown = np.array([older.blocks], dtype=np.uint64)
        kept = overlay(kept, Runs.zeros(grown, np.uint64(newer.blocks) - grown))
    return Layer(overlay(kept, newer.runs), newer.blocks)
