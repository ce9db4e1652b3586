"""What a source remembers of where content lies, in dictionaries: nothing is ever forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.model import KNOWN_PACK, NOWHERE, PACK_NUMBER_MASK

if TYPE_CHECKING:
    from blocksnapd.model import U8, U64


class Remembered:
    """A ``ports.KnownContent`` of one point after another; ``committed`` goes on to the next."""

    def __init__(self) -> None:
        self.packs: list[bytes] = []
        self.places: dict[int, tuple[bytes, int]] = {}  # of the newest point: block -> where
        self.found = 0
        self._noted: dict[int, tuple[bytes, int]] = {}
        self._index: dict[bytes, int] = {}

    def find(self, hashes: U8) -> U64:
        rows = [row.tobytes() for row in hashes]
        found = [self._index.get(row, int(NOWHERE)) for row in rows]
        self.found += sum(place != int(NOWHERE) for place in found)
        return np.array(found, dtype=np.uint64)

    def pack(self, number: int) -> bytes:
        return self.packs[number - 1]

    def note(self, blocks: U64, hashes: U8, locations: U64) -> None:
        for block, row, location in zip(blocks.tolist(), hashes, locations.tolist(), strict=True):
            self._noted[block] = row.tobytes(), location

    def committed(self, records: list[bytes], zeros: list[int], *, full: bool, blocks: int) -> None:
        """The point under way is the newest now; ``records`` is what the sink finished with."""
        before = len(self.packs)
        self.packs += records
        if full:
            self.places = {}
        for block, (row, location) in self._noted.items():
            number, slot = location >> 32, location & 0xFFFF_FFFF
            if location < int(KNOWN_PACK):
                assert number < len(records)
                number += before + 1
            else:
                number &= int(PACK_NUMBER_MASK)
            self.places[block] = row, int(KNOWN_PACK) | number << 32 | slot
        for block in zeros:
            self.places.pop(block, None)
        self.places = {b: place for b, place in self.places.items() if b < blocks}
        self.abandoned()

    def abandoned(self) -> None:
        """The point under way came to nothing."""
        self._noted = {}
        self._index = dict(self.places.values())
