"""Which points a volume has, by its manifest and by what was committed since."""

from __future__ import annotations

import pytest

from blocksnapd.errors import RepositoryFormatError, StoreError
from blocksnapd.store.listing import DAMAGED, entry_name, entry_of, list_points
from blocksnapd.store.manifest_format import Manifest
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import point_name
from blocksnapd.store.point_reader import PointReader
from tests.store.support import VOLUME, Lab


@pytest.fixture
def lab():
    lab = Lab()
    for _ in range(4):
        lab.commit(lab.write([1, 2]) if lab.kept else None)
    return lab


def listed(lab, loaded=None):
    manifests = Manifests(lab.store, lab.keys)
    reader = PointReader(lab.store, lab.keys.source, lab.keys)
    return list_points(lab.store, reader, loaded or manifests.newest(VOLUME))


def publish(lab, manifest):
    manifests = Manifests(lab.store, lab.keys)
    return manifests.publish(manifests.newest(VOLUME), manifest, time_us=1)


def test_without_a_manifest_every_point_is_found(lab):
    points = [point for point, _ in lab.kept]
    assert listed(lab).points == tuple(entry_of(point) for point in points)
    assert [entry_name(VOLUME, e) for e in listed(lab).points] == [p.name for p in points]
    assert listed(lab).missing == ()


def test_only_points_newer_than_the_manifest_are_opened(lab):
    entries = listed(lab).points
    loaded = publish(lab, Manifest(points=entries[:2]))
    for entry in entries[:2]:  # damaged, and nobody looks
        name = entry_name(VOLUME, entry)
        lab.store.objects[name] = b"x" * len(lab.store.objects[name])
    assert listed(lab, loaded).points == entries


def test_what_the_manifest_leaves_out_has_expired(lab):
    entries = listed(lab).points
    loaded = publish(lab, Manifest(points=(entries[0], entries[2])))
    assert listed(lab, loaded).points == (entries[0], entries[2], entries[3])


def test_a_listed_point_that_is_gone_is_named(lab):
    entries = listed(lab).points
    loaded = publish(lab, Manifest(points=entries))
    lab.store.delete(entry_name(VOLUME, entries[1]))
    found = listed(lab, loaded)
    assert found.missing == (entry_name(VOLUME, entries[1]),)
    assert found.points == entries


def test_a_fork_is_refused(lab):
    newest = listed(lab).points[-1]
    twin = point_name(VOLUME, newest.seq, "p" + "f" * 16)
    lab.store.objects[twin] = lab.store.objects[entry_name(VOLUME, newest)]
    with pytest.raises(RepositoryFormatError, match="two points have one place"):
        listed(lab)


def test_a_listing_that_leaves_out_a_point_is_not_believed(lab, monkeypatch):
    """Or the next manifest would begin above it, and it would count as expired."""
    loaded = publish(lab, Manifest(points=listed(lab).points[:1]))
    whole = lab.store.list_names
    left_out = lab.kept[1][0].name
    monkeypatch.setattr(lab.store, "list_names", lambda p: [n for n in whole(p) if n != left_out])
    with pytest.raises(StoreError, match="left out"):
        listed(lab, loaded)


def test_a_new_point_that_is_gone_is_named(lab):
    entries = listed(lab).points
    loaded = publish(lab, Manifest(points=entries[:1]))
    gone = lab.kept[1][0].name
    lab.store.delete(gone)
    found = listed(lab, loaded)
    assert found.missing == (gone,)
    assert found.points == (entries[0], *entries[2:])


@pytest.mark.parametrize("at", [20, -1])
def test_a_new_point_that_is_damaged_is_listed_and_stops_nothing(lab, at):
    """Its header or its tag: what else is there may still be told of it, or not."""
    entries = listed(lab).points
    name = lab.kept[1][0].name
    data = bytearray(lab.store.objects[name])
    data[at] ^= 1
    lab.store.objects[name] = bytes(data)
    found = listed(lab)
    assert found.missing == ()
    assert [entry_name(VOLUME, e) for e in found.points] == [p.name for p, _ in lab.kept]
    assert found.points[2:] == entries[2:]
    damaged = found.points[1]
    if at == -1:
        assert damaged == entries[1]
    else:
        assert (damaged.method, damaged.time_us) == (DAMAGED, entries[0].time_us)
