"""One list of packs for spans that each count in a table of their own. Edge. Thread-safe."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.place_numbers import PlaceNumbers
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, ZERO, Runs

if TYPE_CHECKING:
    from blocksnapd.model import U64
    from blocksnapd.store.layers import Span

_UNKNOWN = np.uint64(0xFFFF_FFFF)


class PackPlaces:
    """Numbers packs by name, as spans come to need them; ``places[n]`` is where pack ``n`` is.

    Memory: what a place takes, some 700 bytes, for each pack of the tables that were needed.
    """

    def __init__(self) -> None:
        self._packs = PlaceNumbers()
        self.places = self._packs.places
        self._by_span: dict[str, U64] = {}
        self._slots = np.zeros(0, dtype=np.uint64)
        self._lock = Lock()

    def renumber(self, span: Span, runs: Runs) -> Runs:
        """Return ``runs`` of ``span`` with locations that count in ``places``.

        Raises:
            RepositoryFormatError: a run passes the end of its pack. Others as ``Span.places``.
        """
        is_content = runs.locations != ZERO
        has = slice(None) if is_content.all() else is_content  # a slice makes no copy
        content = runs.locations[has]
        if not len(content):
            return runs
        packs = content >> SLOT_BITS
        numbers = self._numbers_of(span, packs)[packs]
        slots = content & SLOT_MASK
        if (slots + runs.lengths[has] > self._slots[numbers]).any():
            raise RepositoryFormatError(f"{span.name} points outside its packs")
        locations = np.full(len(runs), ZERO, dtype=np.uint64)
        locations[has] = numbers << SLOT_BITS | slots
        return Runs(runs.starts, runs.lengths, locations)

    def _numbers_of(self, span: Span, packs: U64) -> U64:
        with self._lock:
            numbers = self._by_span.get(span.name)
            if numbers is None:
                numbers = np.full(span.packs, _UNKNOWN, dtype=np.uint64)
            missing = packs[numbers[packs] == _UNKNOWN]
            if len(missing):
                numbers = numbers.copy()  # another thread may be using it
                while len(missing):
                    self._learn(span, int(missing[0]), numbers)
                    missing = missing[numbers[missing] == _UNKNOWN]
                self._by_span[span.name] = numbers
                slots = [place.ref.blocks for place in self.places[len(self._slots) :]]
                self._slots = np.concatenate([self._slots, np.array(slots, dtype=np.uint64)])
            return numbers

    def _learn(self, span: Span, pack: int, numbers: U64) -> None:
        first, places = span.places(pack)
        for at, place in enumerate(places, first):
            numbers[at] = self._packs.number(place)
