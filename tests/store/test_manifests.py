"""The generations of a manifest in a place that keeps objects."""

from __future__ import annotations

import pytest

from blocksnapd.errors import ChecksumError, ObjectExistsError, RepositoryFormatError, StoreError
from blocksnapd.store.manifest_format import Manifest, Verified
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import manifest_name
from tests.store.support import VOLUME, Lab


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def manifests(lab):
    return Manifests(lab.store, lab.keys)


def test_without_any_there_is_the_empty_one(manifests):
    found = manifests.newest(VOLUME)
    assert (found.generation, found.manifest) == (0, Manifest())
    assert manifests.readable(VOLUME) == (found, [])


def test_the_newest_generation_counts(manifests):
    first = manifests.publish(manifests.newest(VOLUME), Manifest(epoch=1), time_us=5)
    second = manifests.publish(first, Manifest(epoch=2), time_us=6)
    assert manifests.generations(VOLUME) == [1, 2]
    assert manifests.newest(VOLUME) == second
    assert second.manifest.epoch == 2


def test_two_who_publish_at_once_do_not_overwrite_each_other(manifests):
    base = manifests.newest(VOLUME)
    manifests.publish(base, Manifest(epoch=1), time_us=5)
    with pytest.raises(ObjectExistsError):
        manifests.publish(base, Manifest(epoch=2), time_us=5)
    assert manifests.newest(VOLUME).manifest.epoch == 1


@pytest.mark.parametrize("left_out", [{2}, {1, 2}])
def test_a_listing_that_was_cut_short_is_not_believed(lab, manifests, left_out, monkeypatch):
    """What an old generation does not know would be undone by whoever went on from it."""
    for epoch in (1, 2):
        manifests.publish(manifests.newest(VOLUME), Manifest(epoch=epoch), time_us=5)
    lists, short = lab.store.list_names, [True]

    def list_names(prefix: str) -> list[str]:
        hidden = {manifest_name(VOLUME, n) for n in left_out} if short else set()
        return [name for name in lists(prefix) if name not in hidden]

    monkeypatch.setattr(lab.store, "list_names", list_names)
    with pytest.raises(StoreError, match="left out"):
        manifests.newest(VOLUME)
    with pytest.raises(StoreError, match="left out"):
        manifests.readable(VOLUME)
    short.clear()
    assert manifests.newest(VOLUME).manifest.epoch == 2


def test_a_damaged_newest_one_stops_maintenance_and_not_reading(lab, manifests):
    first = manifests.publish(manifests.newest(VOLUME), Manifest(epoch=1), time_us=5)
    manifests.publish(first, Manifest(epoch=2), time_us=6)
    name = manifest_name(VOLUME, 2)
    data = lab.store.objects[name]
    lab.store.objects[name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ChecksumError):
        manifests.newest(VOLUME)
    found, problems = manifests.readable(VOLUME)
    assert found == first
    assert len(problems) == 1
    assert name in problems[0]


def test_what_is_no_manifest_is_passed_over(lab, manifests):
    lab.store.put(f"m/{VOLUME}/readme.txt", [b"hello"])
    assert manifests.generations(VOLUME) == []


def test_what_no_reader_would_take_is_not_published(manifests):
    """It would be the newest, and nobody could go on from it."""
    unlisted = Manifest(verified=(Verified(7, 1, "data"),))
    with pytest.raises(RepositoryFormatError, match="not listed"):
        manifests.publish(manifests.newest(VOLUME), unlisted, time_us=5)
    assert manifests.generations(VOLUME) == []
