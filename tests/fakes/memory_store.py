"""A point store in memory: points as whole images, built from what the sink was told.

What a source says that it knows of older points is taken at its word, and compared: a place that
is not of that content, or not of the newest point, is a fault of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.errors import ObjectExistsError, StoreError, StoreFullError
from blocksnapd.model import (
    KNOWN_PACK,
    NOWHERE,
    PACK_NUMBER_MASK,
    PointFacts,
    PointHead,
    RestorePoint,
    Wanted,
)
from blocksnapd.store.names import point_name

if TYPE_CHECKING:
    from blocksnapd.model import U8, U64
    from blocksnapd.ports import KnownContent

HASH_KEY = bytes(range(32))


@dataclass
class Kept:
    """One committed point and its image."""

    point: RestorePoint
    image: bytes
    identities: dict[int, bytes]
    places: dict[int, tuple[str, int]]


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
        self.found = 0  # blocks that sources did not ship because they knew of them

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
        self,
        volume_id: str,
        point_id: str,
        *,
        block_size: int,
        base: PointHead | None,
        known: KnownContent | None = None,
        log: str = "",
    ) -> MemorySink:
        return MemorySink(self, point_id, block_size, base, known)


class MemorySink:
    """A point under way."""

    def __init__(
        self,
        store: MemoryStore,
        point_id: str,
        block_size: int,
        base: PointHead | None,
        known: KnownContent | None,
    ) -> None:
        self._store = store
        self._point_id = point_id
        self._block_size = block_size
        self._base = base
        self._blocks: dict[int, bytes] = {}
        self._identities: dict[int, bytes] = {}
        self._known = known
        self._places: dict[int, tuple[str, int]] = {}  # packs of one session are one here
        self._last = {"add": -1, "zeros": -1}
        self.shipped_bytes = 0
        self.deduplicated_bytes = 0
        self.stored_bytes = 0

    def add(self, blocks: U64, hashes: U8, data: memoryview) -> None:
        size = self._block_size
        assert len(data) == len(blocks) * size == len(hashes) * size
        is_new = self._place(blocks, hashes)
        self.shipped_bytes += size * is_new
        self.deduplicated_bytes += size * (len(blocks) - is_new)
        if self.shipped_bytes > self._store.room:
            raise StoreFullError("no room")
        for row, block in enumerate(blocks.tolist()):
            assert block > self._last["add"]
            self._last["add"] = block
            self._blocks[block] = bytes(data[row * size : (row + 1) * size])
            self._identities[block] = hashes[row].tobytes()

    def _place(self, blocks: U64, hashes: U8) -> int:
        # Returns how many blocks are stored.
        locations = np.full(len(blocks), NOWHERE)
        if self._known is not None:
            locations = self._known.find(hashes)
        is_new = locations == NOWHERE
        stored = len(self._places)
        locations[is_new] = stored + np.arange(np.count_nonzero(is_new), dtype=np.uint64)
        for row, (block, location) in enumerate(
            zip(blocks.tolist(), locations.tolist(), strict=True)
        ):
            if is_new[row]:
                self._places[block] = self._point_id, location
            else:
                self._places[block] = self._check_known(hashes[row].tobytes(), location)
        if self._known is not None:
            self._known.note(blocks, hashes, locations)
        self._store.found += len(blocks) - int(is_new.sum())
        return int(is_new.sum())

    def _check_known(self, identity: bytes, location: int) -> tuple[str, int]:
        assert self._known is not None
        assert location >= int(KNOWN_PACK)
        pack = self._known.pack(location >> 32 & int(PACK_NUMBER_MASK)).decode()
        newest, place = self._store.kept[-1], (pack, location & 0xFFFF_FFFF)
        assert newest.point.head == self._base
        assert (identity, place) in {
            (newest.identities[block], known) for block, known in newest.places.items()
        }
        return place

    def add_zeros(self, starts: U64, counts: U64) -> None:
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            assert start > self._last["zeros"]
            for block in range(start, start + count):
                self._last["zeros"] = block
                self._blocks[block] = bytes(self._block_size)
                self._identities.pop(block, None)

    def finish(self, facts: PointFacts) -> list[bytes]:
        return [self._point_id.encode()]

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
        places = dict(newest.places) if newest and facts.kind == "delta" else {}
        for block in self._blocks:
            places.pop(block, None)
        identities |= self._identities
        places |= self._places
        blocks = len(image) // size
        places = {block: place for block, place in places.items() if block < blocks}
        seq = len(store.kept) + 1
        prev = newest.point if newest else None
        point = RestorePoint(
            facts, seq, point_name(facts.volume_id, seq, facts.point_id), f"d{seq}",
            prev.name if prev else "", prev.digest if prev else "", self.shipped_bytes,
            self.stored_bytes, self.deduplicated_bytes,
        )  # fmt: skip
        store.kept.append(Kept(point, bytes(image[: facts.size]), identities, places))
        if store.loses_answers:
            store.is_away = store.is_away_after
            raise StoreError("the connection broke")
        return point

    def abort(self) -> None:
        self._blocks.clear()
