"""A point store in memory: points as whole images, built from what the sink was told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import ObjectExistsError, StoreError, StoreFullError
from blocksnapd.model import PointFacts, PointHead, RestorePoint, Wanted

if TYPE_CHECKING:
    from blocksnapd.model import U8, U64

HASH_KEY = bytes(range(32))


@dataclass
class Kept:
    """One committed point and its image."""

    point: RestorePoint
    image: bytes
    identities: dict[int, bytes]


class MemoryStore:
    """Keeps points; ``room`` bytes are left."""

    hash_key = HASH_KEY

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.room = 1 << 62
        self.loses_answers = False  # to a commit, which was carried out
        self.is_away_after = False
        self.is_away = False
        self.asked = Wanted(np.zeros(0, dtype=np.uint64), np.zeros((0, 16), dtype=np.uint8))

    def newest(self, volume_id: str) -> PointHead | None:
        if self.is_away:
            raise StoreError("it does not answer")
        return self.kept[-1].point.head if self.kept else None

    def wanted(self, volume_id: str) -> Wanted:
        return self.asked

    def served(self, wanted: Wanted) -> None:
        assert wanted is self.asked
        self.asked = Wanted(wanted.blocks[:0], wanted.identities[:0])

    def begin(
        self, volume_id: str, point_id: str, *, block_size: int, base: PointHead | None
    ) -> MemorySink:
        return MemorySink(self, point_id, block_size, base)


class MemorySink:
    """A point under way."""

    def __init__(
        self, store: MemoryStore, point_id: str, block_size: int, base: PointHead | None
    ) -> None:
        self._store = store
        self._point_id = point_id
        self._block_size = block_size
        self._base = base
        self._blocks: dict[int, bytes] = {}
        self._identities: dict[int, bytes] = {}
        self._last = {"add": -1, "zeros": -1}
        self.shipped_bytes = 0
        self.stored_bytes = 0

    def add(self, blocks: U64, hashes: U8, data: memoryview) -> None:
        size = self._block_size
        assert len(data) == len(blocks) * size == len(hashes) * size
        self.shipped_bytes += len(data)
        if self.shipped_bytes > self._store.room:
            raise StoreFullError("no room")
        for row, block in enumerate(blocks.tolist()):
            assert block > self._last["add"]
            self._last["add"] = block
            self._blocks[block] = bytes(data[row * size : (row + 1) * size])
            self._identities[block] = hashes[row].tobytes()

    def add_zeros(self, starts: U64, counts: U64) -> None:
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            assert start > self._last["zeros"]
            for block in range(start, start + count):
                self._last["zeros"] = block
                self._blocks[block] = bytes(self._block_size)
                self._identities.pop(block, None)

    def commit(self, facts: PointFacts) -> RestorePoint:
        store, size = self._store, self._block_size
        newest = store.kept[-1] if store.kept else None
        if (newest.point.head if newest else None) != self._base:
            raise ObjectExistsError("the chain went on without this session")
        old = newest.image if newest and facts.kind == "delta" else b""
        identities = dict(newest.identities) if newest and facts.kind == "delta" else {}
        image = bytearray(-(-facts.size // size) * size)
        image[: len(old)] = old[: len(image)]
        for block, data in self._blocks.items():
            image[block * size : (block + 1) * size] = data
            identities.pop(block, None)
        identities |= self._identities
        seq = len(store.kept) + 1
        prev = newest.point if newest else None
        point = RestorePoint(
            facts, seq, f"p/{seq}", f"d{seq}", prev.name if prev else "",
            prev.digest if prev else "", self.shipped_bytes, self.stored_bytes,
        )  # fmt: skip
        store.kept.append(Kept(point, bytes(image[: facts.size]), identities))
        if store.loses_answers:
            store.is_away = store.is_away_after
            raise StoreError("the connection broke")
        return point

    def abort(self) -> None:
        self._blocks.clear()
