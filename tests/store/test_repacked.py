"""Reading where blocks lie now, and saying so when they do not."""

from __future__ import annotations

import numpy as np
import pytest

from blocksnapd.errors import ChecksumError, RepositoryFormatError, StoreMissingError
from blocksnapd.store.manifest_format import Moved
from blocksnapd.store.repacked import MovedPacks, Relocated
from blocksnapd.store.runs import SLOT_BITS, SLOT_MASK, expand
from blocksnapd.store.stack import Stack
from tests.maintain.collect_lab import CollectLab
from tests.maintain.support import flipped
from tests.store.support import VOLUME


@pytest.fixture
def lab() -> CollectLab:
    """Of the first point's pack a third lives; it was repacked."""
    lab = CollectLab(blocks=400)
    lab.large(0)
    lab.commit(lab.write(range(100, 400), noise=True))
    lab.forget({1})
    lab.repack(with_data=True)
    return lab


def origin_of(lab: CollectLab) -> str:
    return lab.manifests.newest(VOLUME).manifest.moved[0].origin


def moved_of(lab: CollectLab, moved: tuple[Moved, ...] | None = None) -> MovedPacks:
    told = lab.manifests.newest(VOLUME).manifest.moved if moved is None else moved
    return MovedPacks(lab.store, lab.key, told, volume_id=VOLUME, block_size=4096)


def test_each_block_is_found_by_its_identity(lab):
    stack = Stack(lab.spans(), 0, 2)
    map_ = Relocated(stack, moved_of(lab))
    runs = map_.content(0, 400)
    before, _ = expand(stack.content(0, 400))
    blocks, locations = expand(runs)
    assert blocks.tolist() == before.tolist() == list(range(400))
    names = {map_.places[p].ref.name for p in np.unique(locations >> SLOT_BITS).tolist()}
    assert not names & {origin_of(lab)}
    assert (map_.depth, list(map_.problems)) == (stack.depth, [])
    assert list(map_.windows()) == list(stack.windows())
    assert map_.content(1000, 2000).blocks == 0
    lab.check_all()


def test_blocks_that_did_not_come_along_are_told(lab):
    origin = origin_of(lab)
    moved = moved_of(lab)
    assert origin in moved
    assert len(moved.find(origin, np.arange(100, dtype=np.uint64))) == 100
    with pytest.raises(RepositoryFormatError, match="not in the packs"):
        moved.find(origin, np.array([5, 250], dtype=np.uint64))
    with pytest.raises(RepositoryFormatError, match="not in the packs"):
        moved_of(lab, (Moved(origin, ()),)).find(origin, np.array([5], dtype=np.uint64))


def test_a_pack_that_cannot_be_read_is_told(lab):
    [ref] = lab.manifests.newest(VOLUME).manifest.moved[0].packs
    origin, slots = origin_of(lab), np.array([5], dtype=np.uint64)
    data = lab.store.objects[ref.name]
    lab.store.objects[ref.name] = flipped(data, len(data) - 100)
    with pytest.raises(ChecksumError):
        moved_of(lab).find(origin, slots)
    del lab.store.objects[ref.name]
    with pytest.raises(StoreMissingError):
        moved_of(lab).find(origin, slots)


def test_a_pack_that_was_not_repacked_holds_no_others(lab):
    stack = Stack(lab.spans(), 0, 2)
    stack.content(0, 400)
    first = next(place.ref for place in stack.places if place.ref.name == origin_of(lab))
    with pytest.raises(RepositoryFormatError, match="not a repacked pack"):
        moved_of(lab, (Moved("v/vol-1/d/x", (first,)),)).find(
            "v/vol-1/d/x", np.array([0], dtype=np.uint64)
        )


def test_slots_are_those_of_the_new_pack(lab):
    origin = origin_of(lab)
    moved = moved_of(lab)
    found = moved.find(origin, np.arange(100, dtype=np.uint64))
    assert len(moved.places) == 1
    assert sorted((found & SLOT_MASK).tolist()) == list(range(100))
