"""Patches of a manifest: which damaged slots are read elsewhere. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.store.manifest_format import Patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blocksnapd.store.pack_check import Slots
    from blocksnapd.store.point_format import PackRef


class Patched:
    """The patches that a manifest tells."""

    def __init__(self, patches: Iterable[Patch]) -> None:
        self._by_origin: dict[str, list[Patch]] = {}
        for patch in patches:
            self._by_origin.setdefault(patch.origin, []).append(patch)

    def unhealed(self, lost: Mapping[str, Slots]) -> dict[str, Slots]:
        """Return those of the ``lost`` slots that are not read from a whole place instead."""
        left = {name: slots[~self._is_whole(name, slots, lost)] for name, slots in lost.items()}
        return {name: slots for name, slots in left.items() if len(slots)}

    def origins(self) -> dict[str, Slots]:
        """Return every slot that has a patch, by pack, ascending."""
        return {
            name: np.unique(np.concatenate([np.arange(p.slot, p.slot + p.count) for p in patches]))
            for name, patches in self._by_origin.items()
        }

    def without(self, gone: Mapping[str, Slots]) -> list[Patch]:
        """Return the patches without those of the slots ``gone``."""
        found = []
        for name, patches in self._by_origin.items():
            slots = gone.get(name)
            for patch in patches:
                if slots is None:
                    found.append(patch)
                    continue
                mine = np.arange(patch.slot, patch.slot + patch.count)
                kept = mine[~np.isin(mine, slots)]
                targets = kept - patch.slot + patch.to_slot
                found += patches_of(name, kept, [patch.to] * len(kept), targets)
        return found

    def _is_whole(
        self, name: str, slots: Slots, lost: Mapping[str, Slots]
    ) -> np.typing.NDArray[np.bool_]:
        whole = np.zeros(len(slots), dtype=np.bool_)
        for patch in self._by_origin.get(name, ()):
            mine = (slots >= patch.slot) & (slots < patch.slot + patch.count)
            targets = slots - patch.slot + patch.to_slot
            mine &= ~np.isin(targets, lost.get(patch.to.name, slots[:0]))
            whole |= mine
        return whole


def patches_of(origin: str, slots: Slots, to: Sequence[PackRef], to_slots: Slots) -> list[Patch]:
    """Return patches for ``slots``, ascending; the content of ``slots[i]`` lies at ``to[i]``."""
    found: list[Patch] = []
    for slot, ref, at in zip(slots.tolist(), to, to_slots.tolist(), strict=True):
        last = found[-1] if found else None
        follows = (
            last is not None
            and last.to == ref
            and last.slot + last.count == slot
            and last.to_slot + last.count == at
        )
        if follows and last is not None:
            found[-1] = Patch(origin, last.slot, last.count + 1, ref, last.to_slot)
        else:
            found.append(Patch(origin, slot, 1, ref, at))
    return found
