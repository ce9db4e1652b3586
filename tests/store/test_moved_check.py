"""Damage of repacked packs, told by the slots that layers name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from blocksnapd.packing import PACKING_DEFAULT
from blocksnapd.store.moved_check import PackChecks
from blocksnapd.store.stack import Stack
from tests.maintain.collect_lab import CollectLab
from tests.maintain.support import flipped
from tests.store.support import VOLUME

if TYPE_CHECKING:
    from blocksnapd.store.layers import PackPlace


@pytest.fixture
def lab() -> CollectLab:
    """Of the first point's pack the slots 0 to 99 live; it was repacked."""
    lab = CollectLab(blocks=400)
    lab.large(0)
    lab.commit(lab.write(range(100, 400), noise=True))
    lab.forget({1})
    lab.repack(with_data=True)
    return lab


def origin_of(lab: CollectLab) -> str:
    return lab.manifests.newest(VOLUME).manifest.moved[0].origin


def places(lab: CollectLab) -> dict[str, PackPlace]:
    stack = Stack(lab.spans(), 0, 2)
    stack.content(0, 400)
    return {place.ref.name: place for place in stack.places}


def checks(lab: CollectLab, key=None) -> PackChecks:
    moved = lab.manifests.newest(VOLUME).manifest.moved
    return PackChecks(lab.store, key or lab.keys, moved)


def new_pack(lab: CollectLab) -> str:
    return lab.manifests.newest(VOLUME).manifest.moved[0].packs[0].name


@pytest.mark.parametrize("with_data", [True, False])
def test_what_is_whole_is_whole_wherever_it_is(lab, with_data):
    before = {n: PackChecks(lab.store, lab.keys, ()).check(p, with_data=with_data)
              for n, p in places(lab).items()}  # fmt: skip
    origin = origin_of(lab)
    lab.store.delete(origin)
    for name, place in places(lab).items():
        found = checks(lab).check(place, with_data=with_data)
        assert (found.problem, len(found.lost), found.place) == ("", 0, place)
        if name == origin:
            assert found.blocks == (100 if with_data else 0)
            assert (found.identities[:100] == before[name].identities[:100]).all()
            assert not found.identities[100:].any()
        else:
            assert (found.identities == before[name].identities).all()


@pytest.mark.parametrize("which", ["restore", "maintenance"])
def test_damage_is_told_by_the_first_place(lab, which):
    name = new_pack(lab)
    lab.store.objects[name] = flipped(lab.store.objects[name], 1000)
    key = lab.keys if which == "restore" else lab.key
    found = checks(lab, key).check(places(lab)[origin_of(lab)], with_data=True)
    # Of the frame that is damaged, all that moved from there.
    assert found.lost.tolist() == list(range(min(100, PACKING_DEFAULT.frame_size // 4096)))
    assert name in found.problem
    assert checks(lab, key).check(places(lab)[origin_of(lab)], with_data=False).problem == ""


def test_a_new_pack_that_is_gone_loses_all(lab):
    origin, name = origin_of(lab), new_pack(lab)
    lab.store.delete(name)
    found = checks(lab).check(places(lab)[origin], with_data=False)
    assert len(found.lost) == places(lab)[origin].ref.blocks
    assert found.identities is None
    assert "no " in found.problem or "there is no" in found.problem


def test_many_origins_read_one_pack_once(lab):
    seen = checks(lab)
    place = places(lab)[origin_of(lab)]
    seen.check(place, with_data=True)
    reads = []
    get = lab.store.get_range
    lab.store.get_range = lambda *a: reads.append(a) or get(*a)
    assert seen.check(place, with_data=True).blocks == 100
    assert reads == []
    assert isinstance(seen.check(place, with_data=True).lost, np.ndarray)
