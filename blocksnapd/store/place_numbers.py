"""Packs numbered in the order they are met, each once. Thread-safe. Pure."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocksnapd.store.layers import PackPlace


class PlaceNumbers:
    """``places[n]`` is where pack ``n`` is; the list only grows."""

    def __init__(self) -> None:
        self.places: list[PackPlace] = []
        self._numbers: dict[str, int] = {}
        self._lock = Lock()

    def number(self, place: PackPlace) -> int:
        """Return the number of a pack; a new one for a name that was not met before."""
        with self._lock:
            number = self._numbers.setdefault(place.ref.name, len(self.places))
            if number == len(self.places):
                self.places.append(place)
            return number
