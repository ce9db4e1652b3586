"""Packs in the making: what goes in lies where the layer says, and is read back by the reader."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import pytest

from blocksnapd.blocks import hash_blocks, state_sum
from blocksnapd.runtime.buffers import buffers
from blocksnapd.store.frames import frame_sum, frame_sum_key
from blocksnapd.store.keys import bind_keys, new_keys
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.pack_writer import BATCH_SIZE, Batch, PackWriter
from blocksnapd.store.seal import Scope
from tests.fakes.memory_objects import MemoryObjects

KEYS = bind_keys(new_keys("0123456789abcdef" * 2), "ab" * 32)
NAME = "v/v/d/20260102/x.pk"
SIZE = 4096


def make_pack():
    """A pack of 300 blocks in batches of 256 and 44, and what was put in."""
    rng = np.random.default_rng(2)
    blocks = np.sort(rng.choice(5000, 300, replace=False)).astype(np.uint64)
    data = rng.integers(0, 5, 300 * SIZE, dtype=np.uint8)
    hashes = hash_blocks(data.data, SIZE, KEYS.source.hash_key)
    scope = Scope(KEYS.source.repository_id, "v", NAME)
    writer = PackWriter(
        scope,
        KEYS.source,
        point_id="p" + "0" * 16,
        seq=1,
        block_size=SIZE,
        level=1,
        frame_size=65536,
    )
    back: SimpleQueue[Batch] = SimpleQueue()
    with ThreadPoolExecutor(2) as workers:
        at = 0
        while at < 300:
            batch = Batch(SIZE, *buffers(1, BATCH_SIZE))
            at += batch.fill(blocks, hashes, data.reshape(-1, SIZE), np.arange(at, 300))
            assert writer.has_room(batch)
            writer.add(batch, workers, back.put)
        finished = writer.finish([])
    return blocks, data, hashes, writer, finished, back


@pytest.fixture(scope="module")
def made():
    return make_pack()


def reader_of(finished, parts=None, **change) -> PackReader:
    store = MemoryObjects()
    store.put("holder", [b"before", *(parts or finished.parts), b"after"])
    place = PackPlace(finished.ref, "v", change.get("block_size", SIZE), "holder", 6)
    return PackReader(store, place, KEYS)


def test_every_batch_is_given_back_empty(made):
    back = made[5]
    assert back.qsize() == 2
    assert [back.get().count for _ in range(2)] == [0, 0]


def test_its_sum_is_of_the_blocks_taken(made):
    blocks, _, hashes, writer, *_ = made
    assert writer.state_sum() == state_sum(blocks, hashes)


def test_every_frame_reads_back(made):
    _, data, hashes, _, finished, _ = made
    reader = reader_of(finished)
    assert reader.frames == 19
    found = b"".join(reader.frame(frame) for frame in range(reader.frames))
    assert found == data.tobytes()
    assert reader.identities(np.arange(300)).tobytes() == hashes.tobytes()
    assert reader.index.slots == finished.ref.blocks == 300


def test_the_index_has_the_sum_of_every_sealed_frame(made):
    reader, key = reader_of(made[4]), frame_sum_key(KEYS.source.hash_key)
    for frame in range(reader.frames):
        assert reader.index.frame_sums[frame].tobytes() == frame_sum(
            reader.read(frame, frame + 1), key
        )
