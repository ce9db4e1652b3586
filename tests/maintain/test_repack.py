"""Repacking: fewer bytes, the same images, whoever does it and however often."""

from __future__ import annotations

import random

import numpy as np
import pytest

from blocksnapd.errors import ChecksumError, StoreError
from blocksnapd.packing import FRAME_SIZES
from blocksnapd.store.keys import MaintenanceKey
from blocksnapd.store.layers import PackPlace
from blocksnapd.store.names import parse_pack_name
from blocksnapd.store.pack_reader import PackReader
from blocksnapd.store.repository import Repository
from tests.fakes.faulty_objects import Faults, Killed, Place
from tests.maintain.collect_lab import CollectLab
from tests.maintain.support import flipped
from tests.store.support import VOLUME

DEATHS = frozenset(("kill", "after"))


@pytest.fixture(params=[True, False], ids=["restore key", "maintenance key"])
def with_data(request) -> bool:
    return request.param


@pytest.fixture
def lab(monkeypatch) -> CollectLab:
    """Three points; of the first one's pack a third lives, of the second one's a quarter."""
    lab = CollectLab(blocks=700)
    lab.writer = Repository.on(lab.store, source=lab.keys.source, frame_size=FRAME_SIZES[0])
    lab.large(0)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab.commit(lab.write(range(330, 680), noise=True))
    lab.commit(lab.write([*range(210), *range(420, 680)], noise=True))
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 1 << 20)
    lab.commit(lab.write([1, 2]))
    lab.forget({1, 2})
    return lab


def repacked(lab: CollectLab) -> list[str]:
    return [n for n in lab.packs() if parse_pack_name(n).session.startswith("r")]


def collect_all(lab: CollectLab) -> None:
    for _ in range(3):
        lab.pass_days(10)
        lab.collect()


def test_what_lives_moves_and_the_rest_goes(lab, with_data):
    old = lab.packs()
    sizes = {name: lab.store.size(name) for name in old}
    told = lab.repack(with_data=with_data)
    assert (told.read, told.written) == (2, 1)
    assert told.blocks == 110 + 90
    [new] = repacked(lab)
    moved = lab.manifests.newest(VOLUME).manifest.moved
    assert [(one.origin, [ref.name for ref in one.packs]) for one in moved] == [
        (old[0], [new]), (old[1], [new]),
    ]  # fmt: skip
    lab.check_all()
    assert told.written_size == lab.store.size(new) < (sizes[old[0]] + sizes[old[1]]) * 0.9
    collect_all(lab)
    assert lab.packs() == sorted([old[2], new])
    lab.check_all()
    lab.commit(lab.write([3]), number=9)
    lab.check_all()


def test_dead_blocks_are_dropped_where_frames_are_made_anew(lab):
    lab.repack(with_data=True)
    [new] = repacked(lab)
    assert lab.store.size(new) < 1.05 * 200 * 4096


def test_what_was_repacked_is_repacked_again(lab, with_data):
    """Copied frames are copied again, and frames made anew are copied, or made anew again."""
    lab.repack(with_data=with_data)
    [first] = repacked(lab)
    lab.commit(lab.write(range(210, 300), noise=True), number=10)
    lab.commit(lab.write(range(330, 400), noise=True), number=11)
    lab.forget({3, 4, 5})
    for again in (not with_data, with_data):
        lab.repack(with_data=again)
        lab.check_all()
        collect_all(lab)
        lab.check_all()
    assert first not in lab.packs()
    moved = lab.manifests.newest(VOLUME).manifest.moved
    assert len({ref.name for one in moved for ref in one.packs}) == 1


def test_packs_within_expired_points_move_out():
    lab = CollectLab(blocks=100)
    lab.write(range(100))
    lab.commit()
    for block in range(20):
        lab.commit(lab.write(range(block * 4, block * 4 + 4)))
    lab.forget(set(range(2, 20)))
    points = lab.point_names()
    told = lab.repack(with_data=True)
    assert (told.read, told.written) == (18, 1)
    lab.check_all()
    collect_all(lab)
    assert lab.point_names() == [points[0], *points[19:]]
    assert repacked(lab) == lab.packs()
    lab.check_all()


def test_a_point_within_which_others_live_keeps_its_pack():
    """A listed point's own pack cannot be freed: it stays where it is."""
    lab = CollectLab(blocks=100)
    lab.write(range(100))
    lab.commit()
    lab.commit(lab.write(range(99)))
    assert lab.repack(with_data=True).read == 0


def test_a_budget_is_kept(lab):
    most = max(lab.store.size(name) for name in lab.packs())
    assert lab.repack(with_data=False, budget=0).read == 0
    assert lab.repack(with_data=False, budget=most).read == 1
    lab.check_all()


def test_what_does_not_fit_goes_into_the_next(lab, with_data, monkeypatch):
    """Slots of a pack are few: here too few for both."""
    monkeypatch.setattr("blocksnapd.maintain.repack_writer.PACK_BLOCKS_MAX", 400)
    told = lab.repack(with_data=with_data)
    assert (told.read, told.written) == (2, 2)
    lab.check_all()
    monkeypatch.undo()
    collect_all(lab)
    assert len(repacked(lab)) == 2
    lab.check_all()


def test_nothing_is_worth_it():
    lab = CollectLab(blocks=700)
    lab.large(0)
    before = dict(lab.store.objects)
    assert lab.repack(with_data=True).read == 0
    assert {n for n in lab.store.objects if n.endswith(".pk")} == {
        n for n in before if n.endswith(".pk")
    }


def test_damage_is_not_carried_on(lab):
    """Made anew, each block is checked; copied, a frame stays as damaged as it was."""
    name = lab.packs()[0]
    lab.store.objects[name] = flipped(lab.store.objects[name], 300 * 4096)
    with pytest.raises(ChecksumError):
        lab.repack(with_data=True)
    with pytest.raises(ChecksumError):
        lab.repack(with_data=False)
    assert lab.manifests.newest(VOLUME).manifest.moved == ()


def test_what_does_not_read_back_is_not_told(lab, with_data):
    put = lab.store.put

    def spoil(name, parts):
        size = put(name, parts)
        if "/r0" in name:
            lab.store.objects[name] = flipped(lab.store.objects[name], 1000)
        return size

    lab.store.put = spoil
    with pytest.raises(ChecksumError, match="not what it was made of"):
        lab.repack(with_data=with_data)
    lab.store.put = put
    assert lab.manifests.newest(VOLUME).manifest.moved == ()
    lab.check_all()
    collect_all(lab)
    assert repacked(lab) == []  # a leftover like any other
    lab.check_all()


def test_a_block_that_gets_lost_is_noticed(lab, with_data, monkeypatch):
    from blocksnapd.maintain import repack_writer

    whole = repack_writer.slots_here
    monkeypatch.setattr(repack_writer, "pack_origins", lambda found: _swap(found))
    with pytest.raises(ChecksumError, match="not what it was made of"):
        lab.repack(with_data=with_data)
    assert whole is repack_writer.slots_here
    assert lab.manifests.newest(VOLUME).manifest.moved == ()


def _swap(found):
    from dataclasses import replace

    from blocksnapd.store.repack_format import pack_origins

    slots = found.slots.copy()
    slots[[0, 1]] = slots[[1, 0]]
    return pack_origins(replace(found, slots=slots))


def test_it_may_die_between_any_two_calls(lab):
    lab.collect()
    whole = lab.store
    for call in range(1, 200):
        before, now = dict(whole.objects), lab.now
        lab.store = Place(whole).process(Faults(random.Random(call), {call}, kinds=DEATHS))
        ended = False
        try:
            lab.repack(with_data=True)
            ended = True
        except Killed:
            pass
        lab.store = whole
        if ended:
            break
        if call % 6 == 0:
            lab.check_all()
            lab.repack(with_data=False)
            collect_all(lab)
            lab.check_all()
            assert len(lab.packs()) == 2
        whole.objects.clear()
        whole.objects.update(before)
        lab.now = now
    assert call > 20
    lab.check_all()


def test_somebody_else_moved_them_meanwhile(lab):
    collector = lab.collector()
    collector.run()
    lab.repack(with_data=True)
    moved = lab.manifests.newest(VOLUME).manifest.moved
    put, first = lab.store.put, repacked(lab)
    assert first
    from blocksnapd.maintain.repack import Repacker
    from blocksnapd.packing import SMALL

    marked = collector.marked
    Repacker(
        lab.store, lab.key, lab.manifests, marked.loaded, marked.mark, marked.listed,
        now_us=lambda: 0, packing=SMALL,
    ).run(budget=1 << 40)  # fmt: skip
    assert lab.manifests.newest(VOLUME).manifest.moved == moved
    assert put == lab.store.put
    lab.check_all()


def test_a_full_place_harms_nothing(lab):
    lab.collect()
    lab.store.room = sum(map(len, lab.store.objects.values())) + 1000
    with pytest.raises(StoreError):
        lab.repack(with_data=True)
    lab.store.room = None
    lab.check_all()


def test_a_new_pack_tells_its_origins(lab, with_data):
    lab.repack(with_data=with_data)
    [new] = repacked(lab)
    [ref] = {r for m in lab.manifests.newest(VOLUME).manifest.moved for r in m.packs}
    assert ref.name == new
    key = MaintenanceKey(lab.keys.source, lab.keys.metadata_private)
    index = PackReader(lab.store, PackPlace(ref, VOLUME, 4096, new, 0), key).index
    assert index.origins is not None
    assert len(index.origins.sources) == 2
    assert (index.origins.keys == 0).all() == with_data
    sizes = [index.frame_size(frame) for frame in range(len(index.offsets) - 1)]
    assert sum(sizes) == 4096 * len(index.origins.here)
    assert set(np.unique(index.origins.blocks).tolist()) <= set(range(700))
