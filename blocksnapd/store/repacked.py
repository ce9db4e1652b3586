"""A map whose packs were repacked: content is read where it lies now. Edge. Thread-safe.

Layers name the first place of a block for ever; a manifest's ``moved`` tells which packs hold the
living blocks of such a pack now, and those tell, per block, where it came from. Only who reads
content asks: this stands between a map and its reader, and opens tails as they are needed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blocksnapd.blocks import distinct
from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.place_numbers import PlaceNumbers
from blocksnapd.store.redirect import MapOver, joined_runs
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs, expand, join
from blocksnapd.store.sized_cache import SizedCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocksnapd.model import U64
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import Moved
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import PackRef
    from blocksnapd.store.redirect import ContentMap

TABLES_SIZE_MAX = 64 << 20


class _Table(NamedTuple):
    # Where the slots of one origin are in one pack: ``slots`` ascend, ``here`` are those there.
    slots: U64
    here: U64


class _Found(NamedTuple):
    # What a repacked pack holds, by origin.
    number: int
    tables: dict[str, _Table]

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(table.slots.nbytes + table.here.nbytes for table in self.tables.values())


class MovedPacks:
    """Where repacked blocks lie, of one volume; ``places`` only grows.

    Memory: 16 bytes for each block of the packs that were asked for, up to ``TABLES_SIZE_MAX``.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: MaintenanceKey,
        moved: Iterable[Moved],
        *,
        volume_id: str,
        block_size: int,
    ) -> None:
        self._packs = PlaceNumbers()
        self.places = self._packs.places
        self._store, self._key = store, key
        self._volume_id, self._block_size = volume_id, block_size
        self._moved = {one.origin: one.packs for one in moved}
        self._found = SizedCache[_Found](TABLES_SIZE_MAX, lambda found: found.size)

    def __contains__(self, origin: str) -> bool:
        return origin in self._moved

    def find(self, origin: str, slots: U64) -> U64:
        """Return where the blocks of ``slots`` lie now; locations count in ``places``.

        Raises:
            RepositoryFormatError: some were not moved. ChecksumError, StoreError: a pack cannot
                be read.
        """
        locations = np.full(len(slots), ZERO, dtype=np.uint64)
        for ref in self._moved[origin]:
            number, tables = self._found.get(ref.name, partial(self._read, ref))
            table = tables.get(origin)
            if table is not None:
                at = np.minimum(np.searchsorted(table.slots, slots), len(table.slots) - 1)
                is_here = table.slots[at] == slots
                locations[is_here] = np.uint64(number << 32) + table.here[at[is_here]]
        if (locations == ZERO).any():
            raise RepositoryFormatError(
                f"blocks of {origin} are not in the packs it was repacked into",
                effect="They cannot be read.",
                hint="Run verify to learn which points and ranges are affected.",
            )
        return locations

    def _read(self, ref: PackRef) -> _Found:
        place = PackPlace(ref, self._volume_id, self._block_size, ref.name, 0)
        origins = PackReader(self._store, place, self._key).index.origins
        if origins is None:
            raise RepositoryFormatError(f"{ref.name} is not a repacked pack")
        tables = {}
        for at, source in enumerate(origins.sources):
            mine = np.flatnonzero(origins.origins == at)
            if ref in self._moved.get(source.name, ()) and len(mine):
                mine = mine[np.argsort(origins.slots[mine], kind="stable")]
                tables[source.name] = _Table(origins.slots[mine], origins.here[mine])
        return _Found(self._packs.number(place), tables)


class Relocated(MapOver):
    """``under``, read where ``moved`` tells."""

    def __init__(self, under: ContentMap, moved: MovedPacks) -> None:
        super().__init__(under)
        self._moved, self._packs = moved, PlaceNumbers()

    @property
    def places(self) -> Sequence[PackPlace]:
        """Where the packs are that were met so far."""
        return self._packs.places

    def content(self, first: int, end: int) -> Runs:
        """Return where the content of these blocks lies now; raises as ``under`` and ``find``."""
        runs = self._under.content(first, end)
        places = self._under.places
        packs = runs.locations >> SLOT_BITS
        parts = []
        for number in distinct(packs).tolist():
            part, place = runs.take(packs == np.uint64(number)), places[number]
            if place.ref.name in self._moved:
                parts.append(self._relocated(place.ref.name, part))
            else:
                own = np.uint64(self._packs.number(place)) << SLOT_BITS
                parts.append(Runs(part.starts, part.lengths, part.locations & SLOT_MASK | own))
        both = join(parts)
        return both.take(np.argsort(both.starts, kind="stable"))

    def _relocated(self, origin: str, runs: Runs) -> Runs:
        blocks, locations = expand(runs)
        found = self._moved.find(origin, locations & SLOT_MASK)
        packs = found >> SLOT_BITS
        numbers = np.zeros(len(self._moved.places), dtype=np.uint64)
        for pack in distinct(packs).tolist():
            numbers[pack] = self._packs.number(self._moved.places[pack])
        return joined_runs(blocks, numbers[packs] << SLOT_BITS | found & SLOT_MASK)
