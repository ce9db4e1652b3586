"""One list of packs for spans that each count in a table of their own. Edge. Thread-safe."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.store.layers import renumbered
from blocksnapd.store.runs import SLOT_BITS, ZERO, Runs
from blocksnapd.store.tables import check_locations

if TYPE_CHECKING:
    from blocksnapd.model import U64
    from blocksnapd.store.layers import PackPlace, Span

_UNKNOWN = np.uint64(0xFFFF_FFFF)


class PackPlaces:
    """Numbers packs by name, as spans come to need them; ``places[n]`` is where pack ``n`` is.

    Memory: what a place takes, some 700 bytes, for each pack of the tables that were needed.
    """

    def __init__(self) -> None:
        self.places: list[PackPlace] = []
        self._numbers: dict[str, int] = {}
        self._by_span: dict[str, U64] = {}
        self._slots = np.zeros(0, dtype=np.uint64)
        self._lock = Lock()

    def renumber(self, span: Span, runs: Runs) -> Runs:
        """Return ``runs`` of ``span`` with locations that count in ``places``.

        Raises:
            RepositoryFormatError: a run passes the end of its pack. Others as ``Span.places``.
        """
        content = runs.locations[runs.locations != ZERO]
        if not len(content):
            return runs
        numbers = self._numbers_of(span, content >> SLOT_BITS)
        found = renumbered(runs, numbers)
        check_locations(found.content(), self._slots)
        return found

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
            number = self._numbers.setdefault(place.ref.name, len(self.places))
            if number == len(self.places):
                self.places.append(place)
            numbers[at] = number
