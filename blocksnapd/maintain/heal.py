"""Healing: damaged slots whose content lies elsewhere in the volume by now. Edge.

The source shipped the damaged blocks again (``ship/again.py``), or wrote the same content anew.
Here each is looked for, by its identity, where some point keeps one of the damaged blocks; patches
in the manifest then lead every older point to the new place, and the record of damage is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from blocksnapd.maintain.damage import DamageWalk
from blocksnapd.maintain.history import History
from blocksnapd.maintain.lost_tables import told_rows
from blocksnapd.maintain.patched import Patched, patches_of
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.runs import SLOT_MASK, expand
from blocksnapd.store.slot_tables import SlotTables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blocksnapd.maintain.history import Change
    from blocksnapd.model import U8
    from blocksnapd.store.check_records import CheckRecords, Told
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.manifest_format import LoadedManifest, Manifest, Patch
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_check import Slots
    from blocksnapd.store.point_format import PackRef
    from blocksnapd.store.record_format import BadRows

_ROW = np.dtype("V16")


@dataclass(frozen=True, slots=True)
class Healing:
    """What can be healed now.

    Attributes:
        basis: the manifest that all of this holds for.
        patches: all that the next manifest should tell, old ones that are still needed too.
        closes: records of damage that need nothing more once those are published.
        healed_blocks: damaged slots that get a new place now.
        left_blocks: damaged slots that some point needs and nothing holds.
    """

    basis: LoadedManifest
    patches: tuple[Patch, ...] = ()
    closes: tuple[str, ...] = ()
    healed_blocks: int = 0
    left_blocks: int = 0

    def applied(self, manifest: Manifest) -> Manifest:
        """Return ``manifest`` as it should be; the same if nothing changes."""
        if manifest.patches == self.patches:
            return manifest
        return msgspec.structs.replace(manifest, patches=self.patches)

    def close(self, records: CheckRecords, *, time_us: int) -> None:
        """Close the records; only after the patches were published.

        Raises:
            StoreError: some may be open still; the next healing closes them.
        """
        for name in self.closes:
            records.close(name, time_us=time_us)


def find_healing(
    store: ObjectStore,
    key: MaintenanceKey,
    volume_id: str,
    told: Told,
    *,
    scratch: str | None = None,
) -> Healing:
    """Return what of the damage that ``told`` tells can be healed.

    Reads all layers when there is damage or there are patches, and nothing else when not.

    Raises:
        StoreError: the place failed. HostError: no room for notes.
    """
    history = History(store, PointReader(store, key.source, key), key, volume_id)
    old = Patched(history.loaded.manifest.patches)
    origins = old.origins()
    rows = told_rows(store, key, history, told, scratch=scratch)
    lost = {name: np.unique(found.slots).astype(np.intp) for name, found in rows.items()}
    if not lost and not origins:
        return Healing(history.loaded, closes=_closes(told, {}))
    search = _Search(rows, lost)
    watched, moved = _both(lost, origins), history.loaded.manifest.moved
    walk, tables = DamageWalk(watched), SlotTables(store, key, moved=moved)
    for step in history.steps():
        if step.change is not None:
            walk.apply(step.change)
            search.look(step.change, tables)
    used = {name: walk.uses(name)[0].astype(np.intp) for name in watched}
    kept = Patched(old.without({n: np.setdiff1d(s, used[n]) for n, s in origins.items()}))
    needed = {name: np.intersect1d(slots, used[name]) for name, slots in lost.items()}
    new = search.patches(kept.unhealed(needed))
    healed = {name: _slots(patches) for name, patches in new.items()}
    patches = [*kept.without(healed), *(p for found in new.values() for p in found)]
    left = Patched(patches).unhealed(needed)
    return Healing(
        history.loaded,
        patches=tuple(sorted(patches, key=lambda patch: (patch.origin, patch.slot))),
        closes=_closes(told, left),
        healed_blocks=sum(map(len, healed.values())),
        left_blocks=sum(map(len, left.values())),
    )


class _Search:
    # Looks for the content of damaged slots at whole places of the blocks they held.

    def __init__(self, rows: Mapping[str, BadRows], lost: Mapping[str, Slots]) -> None:
        self._rows, self._lost = rows, lost
        none = np.zeros(0, dtype=np.uint64)
        self._blocks = np.unique(np.concatenate([none, *(r.blocks for r in rows.values())]))
        known = [_keys(r.identities[r.identities.any(axis=1)]) for r in rows.values()]
        self._wanted = np.unique(np.concatenate([np.zeros(0, dtype=_ROW), *known]))
        self._places: list[PackPlace] = []
        self._at = np.full((len(self._wanted), 2), -1, dtype=np.intp)  # (place, slot)

    def look(self, change: Change, tables: SlotTables) -> None:
        """Note where a change holds what is wanted; a later one takes the place of an earlier."""
        if not len(self._wanted):
            return
        for runs in change.windows():
            near = np.searchsorted(self._blocks, runs.starts)
            touches = near < np.searchsorted(self._blocks, runs.ends)
            for place, part in change.by_pack(runs.take(touches)):
                blocks, locations = expand(part)
                slots = (locations & SLOT_MASK).astype(np.intp)
                bad = self._lost.get(place.ref.name, slots[:0])
                slots = np.unique(slots[np.isin(blocks, self._blocks) & ~np.isin(slots, bad)])
                found = tables.identities(place, slots) if len(slots) else None
                if found is not None:
                    self._note(place, slots, found)

    def patches(self, todo: Mapping[str, Slots]) -> dict[str, list[Patch]]:
        """Return patches for those of the slots ``todo`` that were found, by pack."""
        result = {}
        for name, slots in todo.items():
            rows = self._rows[name]
            first = np.unique(rows.slots, return_index=True)[1]  # one identity for each slot
            mine = first[np.isin(rows.slots[first].astype(np.intp), slots)]
            has = rows.identities[mine].any(axis=1)
            mine = mine[has]
            at = self._at[np.searchsorted(self._wanted, _keys(rows.identities[mine]))]
            hit = at[:, 0] >= 0
            refs = [_ref(self._places[place]) for place in at[hit, 0].tolist()]
            origins = rows.slots[mine][hit].astype(np.intp)
            if len(origins):
                result[name] = patches_of(name, origins, refs, at[hit, 1])
        return result

    def _note(self, place: PackPlace, slots: Slots, identities: U8) -> None:
        keys = _keys(identities)
        at = np.minimum(np.searchsorted(self._wanted, keys), len(self._wanted) - 1)
        same = self._wanted[at] == keys
        if same.any():
            self._at[at[same]] = np.column_stack(
                [np.full(int(same.sum()), len(self._places)), slots[same]]
            )
            self._places.append(place)


def _both(one: Mapping[str, Slots], other: Mapping[str, Slots]) -> dict[str, Slots]:
    return {
        name: np.union1d(one.get(name, slots), other.get(name, slots))
        for name, slots in {**one, **other}.items()
    }


def _closes(told: Told, left: Mapping[str, Slots]) -> tuple[str, ...]:
    # A record of an object that is not a pack is closed by whoever finds the newest point whole.
    return tuple(
        name
        for name, bad in told.bad.items()
        if bad.pack is not None
        and not len(np.intersect1d(bad.rows().slots.astype(np.intp), left.get(bad.name, ())))
    )


def _slots(patches: Iterable[Patch]) -> Slots:
    return np.concatenate([np.arange(p.slot, p.slot + p.count) for p in patches])


def _keys(identities: U8) -> np.typing.NDArray[np.void]:
    return np.ascontiguousarray(identities).view(_ROW).reshape(-1)


def _ref(place: PackPlace) -> PackRef:
    if place.holder == place.ref.name:
        return place.ref
    return msgspec.structs.replace(place.ref, holder=place.holder, offset=place.offset)
