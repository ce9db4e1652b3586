"""Reading packs that layers name, where their blocks lie now. Edge. Thread-safe.

What is damaged of a pack that was repacked is told by the slots of the first place, as layers and
records of damage name them.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.model import HASH_SIZE
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.pack_check import PackCheck, Slots, check_pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.manifest_format import Moved
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import PackRef

_CACHED_MAX = 8


class PackChecks:
    """``check_pack`` for packs that may have moved; ``moved`` is a manifest's."""

    def __init__(self, store: ObjectStore, key: MaintenanceKey, moved: Iterable[Moved]) -> None:
        self._store, self._key = store, key
        self._moved = {one.origin: one.packs for one in moved}
        self._cached: dict[tuple[str, bool], PackCheck] = {}
        self._lock = Lock()

    def check(self, place: PackPlace, *, with_data: bool) -> PackCheck:
        """Return what is wrong with a pack, wherever its blocks are.

        Of one that moved, blocks that did not come along are not told to be lost: nobody needs
        them. ``identities`` of the result are by slot of the pack that was asked for; zeros there.
        """
        packs = self._moved.get(place.ref.name)
        if packs is None:
            return check_pack(self._store, place, self._key, with_data=with_data)
        found = PackCheck(place, own_identities=np.zeros((place.ref.blocks, HASH_SIZE), np.uint8))
        lost: list[Slots] = []
        for ref in packs:
            self._add(found, self._checked(place, ref, with_data=with_data), lost)
        if lost:
            found.lost = np.unique(np.concatenate(lost))
        return found

    def _add(self, found: PackCheck, other: PackCheck, lost: list[Slots]) -> None:
        name = found.place.ref.name
        if other.problem and not found.problem:
            found.problem = f"{other.problem}; its blocks moved to {other.place.ref.name}"
        if other.reader is None or other.reader.index.origins is None:
            found.problem = found.problem or f"{other.place.ref.name} is not a repacked pack"
            found.own_identities = None
            lost.append(np.arange(found.place.ref.blocks, dtype=np.intp))
            return
        origins = other.reader.index.origins
        numbers = [n for n, source in enumerate(origins.sources) if source.name == name]
        mine = np.isin(origins.origins, np.array(numbers, dtype=np.uint64))
        mine &= origins.slots < np.uint64(found.place.ref.blocks)
        here, slots = origins.here[mine].astype(np.intp), origins.slots[mine].astype(np.intp)
        if found.own_identities is not None:
            found.own_identities[slots] = other.reader.identities(here)
        if other.blocks:
            found.blocks += len(here)
        lost.append(slots[np.isin(here, other.lost)])

    def _checked(self, place: PackPlace, ref: PackRef, *, with_data: bool) -> PackCheck:
        # Many packs may have moved into one: it is read once for those that come together.
        with self._lock:
            known = self._cached.get((ref.name, with_data))
        if known is None:
            there = PackPlace(ref, place.volume_id, place.block_size, ref.name, 0)
            known = check_pack(self._store, there, self._key, with_data=with_data)
            with self._lock:
                self._cached[ref.name, with_data] = known
                if len(self._cached) > _CACHED_MAX:
                    del self._cached[next(iter(self._cached))]
        return known
