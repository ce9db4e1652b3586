"""A repository in memory, and a volume whose every point is remembered byte by byte."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from blocksnapd.blocks import hash_blocks, state_sum
from blocksnapd.model import PointFacts, Proof, RestorePoint
from blocksnapd.store.keys import RestoreKey, bind_keys, new_keys
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.repo_file import pack_repository
from blocksnapd.store.repository import Repository
from blocksnapd.store.seal import digest
from tests.fakes.memory_objects import MemoryObjects

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore

BLOCK = 4096
VOLUME = "vol-1"
HASH_KEY = bytes(range(32))
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def make_repository(store: ObjectStore) -> RestoreKey:
    """Put repo.json into ``store``; return all keys."""
    repository_id = "0123456789abcdef" * 2
    keys = new_keys(repository_id)
    # Always the same identities: what a table of bounded size forgets depends on them.
    keys = dataclasses.replace(keys, source=dataclasses.replace(keys.source, hash_key=HASH_KEY))
    data = pack_repository(repository_id, START, keys.source.fingerprint)
    store.put(REPOSITORY_NAME, [data])
    return bind_keys(keys, digest(data))


def point_id(number: int) -> str:
    return f"p{number:016x}"


@dataclass
class Lab:
    """A volume, what was committed of it, and both sides of its repository."""

    store: ObjectStore = field(default_factory=MemoryObjects)
    keys: RestoreKey | None = None
    blocks: int = 64
    size: int = 0
    block_size: int = BLOCK
    kept: list[tuple[RestorePoint, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = self.keys or make_repository(self.store)
        self.size = self.size or self.blocks * self.block_size
        self.image = np.zeros((self.blocks, self.block_size), dtype=np.uint8)
        self.rng = np.random.default_rng(11)
        self.reopen()

    def reopen(self) -> None:
        """Open both sides anew: the writer has no private key, the reader has."""
        self.writer = Repository.on(self.store, source=self.keys.source)
        self.reader = Repository.on(self.store, restore=self.keys)

    def resize(self, size: int) -> None:
        """Change the volume's size; what is cut off is gone, what is new is zero."""
        blocks = -(-size // self.block_size)
        image = np.zeros((blocks, self.block_size), dtype=np.uint8)
        kept = min(blocks, len(self.image))
        image[:kept] = self.image[:kept]
        image.reshape(-1)[size:] = 0
        self.image, self.blocks, self.size = image, blocks, size

    def write(self, blocks, *, noise: bool = False) -> np.ndarray:
        """Give blocks new content (compressible unless ``noise``); return their numbers."""
        blocks = np.unique(np.asarray(blocks, dtype=np.intp))
        high = 256 if noise else 4
        new = self.rng.integers(0, high, (len(blocks), self.block_size), dtype=np.uint8)
        self.image[blocks] = new
        self.image.reshape(-1)[self.size :] = 0
        return blocks

    def zero(self, blocks) -> np.ndarray:
        """Make blocks zero; return their numbers."""
        blocks = np.unique(np.asarray(blocks, dtype=np.intp))
        self.image[blocks] = 0
        return blocks

    def bytes(self) -> bytes:
        """Return the image as it is now."""
        return self.image.tobytes()[: self.size]

    def state_sum(self) -> int:
        content = np.flatnonzero(self.image.any(axis=1))
        hashes = self.hashes(content)
        return state_sum(content.astype(np.uint64), hashes)

    def hashes(self, blocks) -> np.ndarray:
        data = np.ascontiguousarray(self.image[blocks]).reshape(-1).data
        return hash_blocks(data, self.block_size, self.keys.source.hash_key)

    def facts(self, kind: str, number: int) -> PointFacts:
        return PointFacts(
            volume_id=VOLUME, volume_name="db/data", point_id=point_id(number),
            time=START + timedelta(minutes=number), size=self.size, block_size=self.block_size,
            kind=kind, method="tracked", driver="lvm", consistency="crash", chunk_size=65536,
            changed_bytes=123, state_sum=self.state_sum(), reason="because",
            proof=Proof(7, 1, ((0, 4096),)), tags=("nightly",),
        )  # fmt: skip

    def sink(self, number: int, base="newest"):
        if base == "newest":
            base = self.writer.newest(VOLUME)
        return self.writer.begin(VOLUME, point_id(number), block_size=self.block_size, base=base)

    def feed(self, sink, changed, *, batch: int = 7) -> None:
        """Give ``changed`` blocks to ``sink`` in batches of odd size, zeros as zeros."""
        changed = np.asarray(changed, dtype=np.intp)
        for at in range(0, len(changed), batch):
            part = changed[at : at + batch]
            has = self.image[part].any(axis=1)
            blocks = part[has]
            data = bytearray(np.ascontiguousarray(self.image[blocks]).tobytes())
            sink.add(blocks.astype(np.uint64), self.hashes(blocks), memoryview(data))
            data[:] = bytes(len(data))  # the sink may not rely on it after return
            zeros = part[~has].astype(np.uint64)
            sink.add_zeros(zeros, np.ones(len(zeros), dtype=np.uint64))

    def commit(self, changed=None, *, number: int | None = None, batch: int = 7) -> RestorePoint:
        """Commit a point: a full one without ``changed``; remember its image."""
        number = len(self.kept) + 1 if number is None else number
        sink = self.sink(number)
        kind = "full" if changed is None else "delta"
        if changed is None:
            changed = np.flatnonzero(self.image.any(axis=1))
        self.feed(sink, changed, batch=batch)
        point = sink.commit(self.facts(kind, number))
        self.kept.append((point, self.bytes()))
        return point

    def check_all(self) -> None:
        """Compare every point, read in every way, with what was remembered of it."""
        for point, image in self.kept:
            check_image(self.reader, point, image)


def check_image(repository: Repository, point: RestorePoint, image: bytes) -> None:
    """Compare ``read_into``, ``pieces`` and ``data_extents`` of a point with ``image``."""
    opened = repository.open_image(point)
    assert opened.size == len(image)
    assert opened.point == point
    whole = bytearray(b"\xff" * len(image))
    opened.read_into(0, memoryview(whole))
    assert whole == image
    size = opened.block_size
    padded = bytearray(-(-len(image) // size) * size)
    seen: list[int] = []
    for blocks, data in opened.pieces():
        assert len(data) == len(blocks) * size
        for at, block in enumerate(blocks.tolist()):
            seen.append(block)
            padded[block * size : (block + 1) * size] = data[at * size : (at + 1) * size]
    assert padded[: len(image)] == image
    assert len(seen) == len(set(seen))
    extents = opened.data_extents()
    starts, ends = extents.starts.tolist(), extents.ends.tolist()
    assert all(s < e for s, e in zip(starts, ends, strict=True))
    assert all(e < s for e, s in zip(ends, starts[1:], strict=False))
    inside = {b for s, e in zip(starts, ends, strict=True) for b in range(s // size, -(-e // size))}
    assert inside == set(seen)
    assert all(e <= len(image) for e in ends)
    opened.close()
