"""What the slots of packs held whose tables are lost: guessed, then proven by state sums. Edge.

A pack without its table no longer tells identities, so nothing says what its slots held. But the
source shipped those blocks again: unless they changed in between, they held what the new places
hold. That is a guess until the state sum of an older point, which its source committed to, comes
out right with it; one point whose every block is known or guessed proves all its guesses at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.maintain.damage import DamageWalk
from blocksnapd.maintain.scratch import Scratch
from blocksnapd.maintain.state_walk import UNKNOWN, StateWalk
from blocksnapd.model import HASH_SIZE
from blocksnapd.store.record_format import BadRows
from blocksnapd.store.runs import SLOT_MASK, expand
from blocksnapd.store.slot_tables import SlotTables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.maintain.history import Change, History
    from blocksnapd.model import U8, U64
    from blocksnapd.store.check_records import Told
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_check import Slots


def told_rows(
    store: ObjectStore,
    key: MaintenanceKey,
    history: History,
    told: Told,
    *,
    scratch: str | None = None,
) -> dict[str, BadRows]:
    """Return the rows of all open records by pack, with identities that could be proven.

    Raises:
        HostError: no room for notes.
    """
    parts: dict[str, list[BadRows]] = {}
    for bad in told.bad.values():
        if bad.pack is not None:
            parts.setdefault(bad.name, []).append(bad.rows())
    rows = {name: _joined(found) for name, found in parts.items()}
    lost = {n: _unknown_slots(r) for n, r in rows.items()}
    lost = {name: slots for name, slots in lost.items() if len(slots)}
    if not lost:
        return rows
    guesses = _Guesses(lost)
    tables = SlotTables(store, key, moved=history.loaded.manifest.moved)
    for step in history.steps():
        if step.change is not None:
            guesses.learn(step.change, tables)
    _prove(history, tables, guesses, scratch)
    return {name: guesses.filled(name, found) for name, found in rows.items()}


class _Guesses:
    # For each slot of a lost table: a guess at its identity, and whether that was proven.

    def __init__(self, lost: Mapping[str, Slots]) -> None:
        self.lost = lost
        self.walk = DamageWalk(lost)
        size = {name: int(slots.max()) + 1 for name, slots in lost.items()}
        self._guessed = {n: np.tile(UNKNOWN, (count, 1)) for n, count in size.items()}
        self._proven = {n: np.zeros(count, dtype=np.bool_) for n, count in size.items()}

    def learn(self, change: Change, tables: SlotTables) -> None:
        # Where a block lies that was lost just before, it was shipped again or has changed.
        before = self.walk.blocks
        for runs in change.windows():
            for place, part in change.by_pack(runs):
                if place.ref.name in self.lost:
                    continue
                blocks, locations = expand(part)
                again = np.isin(blocks, before)
                if again.any():
                    slots = (locations[again] & SLOT_MASK).astype(np.intp)
                    found = tables.identities(place, slots)
                    if found is not None:
                        self._guess(blocks[again], found)
        self.walk.apply(change)

    def identities(self, tables: SlotTables, place: PackPlace, slots: Slots) -> U8 | None:
        """Return what a table says or, of a lost one, what is guessed."""
        guessed = self._guessed.get(place.ref.name)
        if guessed is None:
            return tables.identities(place, slots)
        found = np.tile(UNKNOWN, (len(slots), 1))
        inside = slots < len(guessed)
        found[inside] = guessed[slots[inside]]
        return found

    def prove(self, name: str, blocks: U64) -> None:
        """Learn that an image has its sum, of which ``blocks`` lie in the lost pack ``name``.

        In that pack: a block of which another pack held another content proves nothing of it.
        """
        slots, held = self.walk.uses(name)
        twice = np.unique(held, return_counts=True)
        single = np.isin(held, twice[0][twice[1] == 1])
        self._proven[name][slots[single & np.isin(held, blocks)].astype(np.intp)] = True

    def filled(self, name: str, rows: BadRows) -> BadRows:
        """Return ``rows`` with what was proven."""
        if name not in self.lost:
            return rows
        identities = np.array(rows.identities)
        slots = rows.slots.astype(np.intp)
        inside = np.minimum(slots, len(self._proven[name]) - 1)
        proven = self._proven[name][inside] & (inside == slots) & ~identities.any(axis=1)
        identities[proven] = self._guessed[name][slots[proven]]
        return BadRows(rows.slots, rows.blocks, identities)

    def _guess(self, blocks: U64, identities: U8) -> None:
        order = np.argsort(blocks)
        blocks, identities = blocks[order], identities[order]
        for name in self.lost:
            slots, held = self.walk.uses(name)
            at = np.minimum(np.searchsorted(blocks, held), len(blocks) - 1)
            mine = blocks[at] == held
            targets = slots[mine].astype(np.intp)
            new = (self._guessed[name][targets] == UNKNOWN).all(axis=1)  # the first one counts
            self._guessed[name][targets[new]] = identities[at[mine][new]]


def _prove(history: History, tables: SlotTables, guesses: _Guesses, scratch: str | None) -> None:
    damages = {name: DamageWalk({name: slots}) for name, slots in guesses.lost.items()}
    with Scratch(scratch) as notes:
        sums = StateWalk(notes, lambda place, slots: guesses.identities(tables, place, slots))
        for step in history.steps():
            if step.change is None:
                continue
            for damage in damages.values():
                damage.apply(step.change)
            sums.apply(step.change)
            if step.header and sums.state_sum == int(step.header.state_sum, 16):
                for name, damage in damages.items():
                    guesses.prove(name, damage.blocks)


def _joined(parts: list[BadRows]) -> BadRows:
    return BadRows(
        np.concatenate([p.slots for p in parts]),
        np.concatenate([p.blocks for p in parts]),
        np.concatenate([p.identities for p in parts]),
    )


def _unknown_slots(rows: BadRows) -> Slots:
    none: U8 = np.zeros(HASH_SIZE, dtype=np.uint8)
    unknown = (rows.identities == none).all(axis=1)
    return np.unique(rows.slots[unknown]).astype(np.intp)
