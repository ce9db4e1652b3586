"""The tables of packs while many are looked at in turn: the last few stay at hand. Edge."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from blocksnapd.store.moved_check import PackChecks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocksnapd.model import U8
    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.layers import PackPlace
    from blocksnapd.store.manifest_format import Moved
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_check import PackCheck, Slots

SLOTS_MAX = 1 << 22  # 64 MiB of identities


class SlotTables:
    """Gives identities of slots; ``seen`` hears of each look at a tail. One thread.

    ``moved``, a manifest's, tells where blocks lie now whose places are those of layers.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: MaintenanceKey,
        seen: Callable[[PackCheck], None] = lambda _check: None,
        *,
        moved: Iterable[Moved] = (),
    ) -> None:
        self._checks, self._seen = PackChecks(store, key, moved), seen
        self._cached: OrderedDict[PackPlace, PackCheck] = OrderedDict()
        self._slots = 0

    def identities(self, place: PackPlace, slots: Slots) -> U8 | None:
        """Return the identities of ``slots``, shape (n, 16); None: the table cannot be read."""
        check = self._cached.get(place)
        if check is None:
            check = self._checks.check(place, with_data=False)
            self._seen(check)
            self._keep(check)
        self._cached.move_to_end(place)
        return None if check.identities is None else check.identities[slots]

    def _keep(self, check: PackCheck) -> None:
        self._cached[check.place] = check
        self._slots += check.place.ref.blocks
        while self._slots > SLOTS_MAX and len(self._cached) > 1:
            self._slots -= self._cached.popitem(last=False)[1].place.ref.blocks
