"""The next generation: decided anew where somebody was faster, and only by what it holds for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from blocksnapd.errors import BusyError
from blocksnapd.maintain.revise import revise
from blocksnapd.store.manifest_format import Manifest
from blocksnapd.store.manifests import Manifests
from tests.store.support import VOLUME, Lab


@pytest.fixture
def manifests():
    lab = Lab()
    return Manifests(lab.store, lab.keys)


def test_whoever_is_late_decides_again(manifests):
    seen = []

    def change(newest):
        seen.append(newest.generation)
        if len(seen) == 1:
            manifests.publish(newest, Manifest(epoch=7), time_us=1)
        return replace(newest.manifest, pack_count=3)

    done = revise(manifests, VOLUME, change, now_us=lambda: 2)
    assert seen == [0, 1]
    assert (done.generation, done.manifest.epoch, done.manifest.pack_count) == (2, 7, 3)


def test_what_holds_for_one_generation_is_done_to_no_other(manifests):
    basis = manifests.newest(VOLUME)
    manifests.publish(basis, Manifest(epoch=7), time_us=1)
    with pytest.raises(BusyError):
        revise(manifests, VOLUME, lambda _: Manifest(), now_us=lambda: 2, basis=basis)
    newest = manifests.newest(VOLUME)
    assert newest.manifest.epoch == 7
    done = revise(manifests, VOLUME, lambda _: Manifest(), now_us=lambda: 2, basis=newest)
    assert done.generation == 2
