"""Images against remembered bytes: every point, read in every way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.model import PointFacts
from tests.store.support import BLOCK, START, VOLUME, Lab, point_id

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small(monkeypatch) -> None:
    """Make packs of a few frames, so that a small image has all the borders of a large one."""
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 100_000)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 40_000)


blocks = st.sets(st.integers(0, 199), max_size=80)
steps = st.lists(
    st.tuples(blocks, blocks, st.booleans(), st.sampled_from([1, 7, 40, 500])),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_every_point_of_a_random_life_reads_back(small, steps):
    lab = Lab(blocks=200)
    lab.write(range(50, 190), noise=True)
    lab.commit()
    for written, zeroed, is_full, batch in steps:
        changed = np.union1d(lab.write(sorted(written)), lab.zero(sorted(zeroed)))
        lab.commit(None if is_full else changed, batch=batch)
    lab.check_all()
    report = lab.reader.verify(lab.kept[-1][0])
    assert report.is_whole, report.problems


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40 * BLOCK), min_size=1, max_size=5))
def test_a_volume_that_shrinks_and_grows_reads_back(sizes):
    lab = Lab(blocks=20)
    lab.write(range(20))
    lab.commit()
    for size in sizes:
        lab.resize(size)
        # The block that the end cuts changes with the size, like any other.
        changed = lab.write([0, lab.blocks // 2])
        lab.commit(np.union1d(changed, [min(lab.blocks, 20) - 1, lab.blocks - 1]))
    lab.check_all()


@pytest.mark.parametrize("block_size", [4096, 16384, 65536])
def test_every_block_size(small, block_size):
    lab = Lab(blocks=40, block_size=block_size)
    lab.write(range(3, 33), noise=True)
    lab.commit()
    lab.commit(lab.write([0, 3, 17, 39]))
    lab.check_all()


def test_an_empty_image_and_an_all_zero_one():
    lab = Lab(blocks=10)
    lab.commit()
    lab.commit(lab.write([3]))
    lab.commit(lab.zero([3]))
    lab.check_all()
    assert lab.reader.verify(lab.kept[0][0]).is_whole


def test_an_image_of_no_bytes():
    lab = Lab(blocks=0)
    lab.commit()
    lab.check_all()


def test_reads_of_any_alignment_equal_the_whole(small):
    lab = Lab(blocks=100)
    lab.write(range(10, 90))
    lab.zero(range(40, 45))
    lab.commit()
    lab.commit(lab.write(range(0, 100, 9)))
    point, image = lab.kept[-1]
    opened = lab.reader.open_image(point)
    rng = np.random.default_rng(5)
    for _ in range(200):
        low, high = sorted(rng.integers(0, len(image) + 1, 2).tolist())
        view = bytearray(high - low)
        opened.read_into(low, memoryview(view))
        assert view == image[low:high]


def test_blocks_past_16_tib():
    """A sparse image of 64 TiB with content on both sides of block 2**32."""
    lab = Lab(blocks=8)
    lab.write(range(8))
    size = 64 << 40
    numbers = np.array([0, 2**32 - 1, 2**32, 2**32 + 1, 2**34 - 1], dtype=np.uint64)
    hashes = lab.hashes(np.arange(5))
    sink = lab.sink(1)
    sink.add(numbers, hashes, memoryview(lab.image[:5].tobytes()))
    total = _sum(numbers, hashes)
    sink.commit(_facts(1, size, "full", total))
    sink = lab.sink(2)
    far = np.array([2**33], dtype=np.uint64)
    sink.add(far, lab.hashes([7]), memoryview(lab.image[7:8].tobytes()))
    sink.add_zeros(np.array([2**32], dtype=np.uint64), np.array([2**20], dtype=np.uint64))
    kept = np.isin(numbers, [0, 2**32 - 1, 2**34 - 1])
    total = _sum(np.append(numbers[kept], far), np.vstack([hashes[kept], lab.hashes([7])]))
    point = sink.commit(_facts(2, size, "delta", total))
    opened = lab.reader.open_image(point)
    for number, row in ((0, 0), (2**32 - 1, 1), (2**33, 7), (2**34 - 1, 4)):
        view = bytearray(BLOCK)
        opened.read_into(number * BLOCK, memoryview(view))
        assert view == lab.image[row].tobytes()
    view = bytearray(b"x" * (3 * BLOCK))
    opened.read_into((2**32 - 1) * BLOCK, memoryview(view))
    assert view == lab.image[1].tobytes() + bytes(2 * BLOCK)
    assert opened.data_extents().ends.tolist()[-1] == size
    assert sorted(n for b, _ in opened.pieces() for n in b.tolist()) == [
        0, 2**32 - 1, 2**33, 2**34 - 1,
    ]  # fmt: skip
    assert lab.reader.verify(point).is_whole


def test_threads_may_read_at_once(small):
    lab = Lab(blocks=100)
    lab.write(range(100))
    lab.commit()
    point, image = lab.kept[0]
    opened, wrong = lab.reader.open_image(point), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            at = int(rng.integers(0, 90)) * BLOCK
            view = bytearray(5 * BLOCK)
            opened.read_into(at, memoryview(view))
            if view != image[at : at + 5 * BLOCK]:
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_pieces_may_be_left_early(small):
    lab = Lab(blocks=200)
    lab.write(range(200), noise=True)
    lab.commit()
    before = threading.active_count()
    pieces: Iterator = lab.reader.open_image(lab.kept[0][0]).pieces()
    next(pieces)
    pieces.close()
    assert threading.active_count() <= before


def test_caches_stay_within_their_limits(small, monkeypatch):
    monkeypatch.setattr("blocksnapd.store.image.PACKS_SIZE_MAX", 4000)
    monkeypatch.setattr("blocksnapd.store.image.FRAMES_SIZE_MAX", 200_000)
    lab = Lab(blocks=200)
    lab.write(range(200), noise=True)
    lab.commit()
    opened = lab.reader.open_image(lab.kept[0][0])
    view = bytearray(opened.size)
    opened.read_into(0, memoryview(view))
    assert view == lab.kept[0][1]
    assert 0 < opened._packs.size <= 4000
    assert 0 < opened._frames.size <= 200_000
    opened.close()
    assert opened._frames.size == 0


@pytest.mark.parametrize("few", [0, 1 << 20])
def test_extents_of_a_part_are_cut_and_those_of_all_come_in_windows(monkeypatch, few):
    monkeypatch.setattr("blocksnapd.store.image._FEW_BLOCKS", few)
    monkeypatch.setattr("blocksnapd.store.image.SEGMENT_BLOCKS", 7)
    monkeypatch.setattr("blocksnapd.store.stack._STEP_RUNS", 3)
    monkeypatch.setattr("blocksnapd.store.stack.WINDOW_RUNS_MAX", 2)
    monkeypatch.setattr("blocksnapd.store.tables.RUNS_PER_PART_MAX", 2)
    lab = Lab(blocks=60)
    lab.write([*range(0, 40, 3), *range(41, 59)])
    lab.commit()
    lab.commit(lab.write(range(10, 30)))
    opened = lab.reader.open_image(lab.kept[-1][0])
    inside = {b for b in range(60) if lab.image[b].any()}
    whole = opened.data_extents()
    assert whole.size == opened.data_size() == len(inside) * BLOCK
    assert len(list(opened.extents())) > 1
    assert (whole.starts[1:] > whole.ends[:-1]).all()
    for start, end in ((0, 0), (5, 30 * BLOCK - 7), (11 * BLOCK, 60 * BLOCK), (0, 1 << 40)):
        part = opened.data_extents(start, end)
        clip = [(max(s, start), min(e, end)) for s, e in zip(
            whole.starts.tolist(), whole.ends.tolist(), strict=True) if s < end and e > start
        ]  # fmt: skip
        assert list(zip(part.starts.tolist(), part.ends.tolist(), strict=True)) == clip


def _sum(numbers: np.ndarray, hashes: np.ndarray) -> int:
    from blocksnapd.blocks import state_sum

    return state_sum(numbers, hashes)


def _facts(number: int, size: int, kind: str, total: int) -> PointFacts:
    return PointFacts(
        VOLUME, "v", point_id(number), START, size, BLOCK, kind, "tracked", "lvm", "crash", 4096,
        0, total,
    )  # fmt: skip
