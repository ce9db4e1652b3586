"""Manifests, collections and strange names; what is whole is no problem, leftovers are none."""

from __future__ import annotations

import pytest

from blocksnapd.maintain.other_objects import check_others
from blocksnapd.store.collection_format import Condemned, Done
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.files import LocalStore
from blocksnapd.store.manifests import Manifests
from tests.store.support import VOLUME, Lab


def found(lab: Lab) -> dict[str, str]:
    return {other.name: other.problem for other in check_others(lab.store, lab.keys, VOLUME)}


@pytest.fixture
def lab(tmp_path) -> Lab:
    """In a directory, where a lock and unfinished writes lie about, too."""
    lab = Lab(store=LocalStore(str(tmp_path)))
    lab.commit()
    manifests = Manifests(lab.store, lab.keys)
    for _ in range(3):
        newest = manifests.newest(VOLUME)
        manifests.publish(newest, newest.manifest, time_us=1)
    source = lab.keys.source
    lists = CollectionLists(lab.store, source, VOLUME)
    lists.put(Condemned(source.repository_id, VOLUME, 1, 2, 3, 1))
    lists.put(Done(source.repository_id, VOLUME, 1, 3, 1))
    return lab


def test_all_is_well(lab):
    others = found(lab)
    assert len(others) == 5
    assert not any(others.values())


def test_an_old_manifest_may_be_gone(lab):
    lab.store.delete(f"m/{VOLUME}/{2:016x}.mf")
    assert not any(found(lab).values())


def test_leftovers_are_no_problem_and_strange_names_are(lab):
    for name in (
        f"v/{VOLUME}/d/20260101/p0000000000000009-0000-01234567.pk",
        f"v/{VOLUME}/l/{1:016x}-{2:016x}-01234567.ly",
    ):
        lab.store.put(name, [b"left over"])
    assert not any(found(lab).values())
    strange = {
        f"v/{VOLUME}/d/20260101/x": "it is not a pack", f"v/{VOLUME}/l/x": "it is not a layer",
        f"m/{VOLUME}/x": "not the name of a manifest", f"g/{VOLUME}/x": "not the name of",
    }  # fmt: skip
    for name, text in strange.items():
        lab.store.put(name, [b"?"])
        assert text in found(lab)[name]
    lab.store.put(f"v/{VOLUME}/other/x", [b"?"])
    assert found(lab)[f"v/{VOLUME}/other"] == "nothing is kept there"
