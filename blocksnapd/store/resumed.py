"""Packs of a session that was cut, taken into the one that goes on from it. Blocking. Edge.

Each is asked for at its place once, when the first block is found in it: a place may have been put
back to an older state since. One that is not there as it was is left alone; its blocks are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import distinct
from blocksnapd.errors import NotAllowedError, StoreMissingError
from blocksnapd.model import NOWHERE
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.model import U8, U64
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.point_format import PackRef
    from blocksnapd.store.session_log import SessionLog


class Resumed:
    """What there is to go on from. One thread."""

    def __init__(
        self, store: ObjectStore, log: SessionLog, number: Callable[[PackRef], int]
    ) -> None:
        """``number`` gives a pack its number in the session."""
        self._store, self._log, self._number = store, log, number
        self._numbers: dict[int, int | None] = {}

    def find(self, blocks: U64, hashes: U8) -> U64:
        """Return where ``blocks``, ascending, lie already, or NOWHERE; see ``SessionLog.find``.

        Raises:
            StoreError: the place failed.
        """
        there = self._log.find(blocks, hashes)
        found = np.full(len(blocks), NOWHERE)
        is_there = there != NOWHERE
        packs = there >> SLOT_BITS
        for index in distinct(packs[is_there]).tolist():
            number = self._taken(index)
            if number is not None:
                mine = is_there & (packs == index)
                found[mine] = np.uint64(number) << SLOT_BITS | there[mine] & SLOT_MASK
        return found

    def _taken(self, index: int) -> int | None:
        if index not in self._numbers:
            ref = self._log.ref(index)
            is_good = ref is not None and self._is_there(ref)
            self._numbers[index] = self._number(ref) if ref is not None and is_good else None
        return self._numbers[index]

    def _is_there(self, ref: PackRef) -> bool:
        try:
            return self._store.size(ref.name) == ref.size
        except (StoreMissingError, NotAllowedError):
            return False
