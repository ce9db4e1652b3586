"""Lists and proofs as a place holds them."""

from __future__ import annotations

import pytest

from blocksnapd.errors import ObjectExistsError, StoreMissingError
from blocksnapd.store.collection_format import Condemned, Done
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.names import condemned_name
from tests.store.support import VOLUME, Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


def lists_of(lab: Lab) -> CollectionLists:
    return CollectionLists(lab.store, lab.keys.source, VOLUME)


def cond(lab: Lab, epoch: int) -> Condemned:
    return Condemned(lab.keys.source.repository_id, VOLUME, epoch, 5, 6, 7)


def test_nothing_was_published_at_first(lab):
    found = lists_of(lab).published()
    assert (found.lists, found.done, found.seen, found.open) == ((), (), 0, ())
    assert lists_of(lab).after(0) == (0, {})


def test_what_was_published_is_found(lab):
    lists = lists_of(lab)
    for epoch in (1, 2, 3):
        lists.put(cond(lab, epoch))
    done = Done(lab.keys.source.repository_id, VOLUME, 2, 5, 7)
    lists.put(done)
    lab.store.put(f"g/{VOLUME}/something-else", [b"x"])
    found = lists.published()
    assert (found.lists, found.done, found.seen, found.open) == ((1, 2, 3), (2,), 3, (1, 3))
    assert lists.after(1) == (3, {2: cond(lab, 2), 3: cond(lab, 3)})
    assert lists.condemned(1) == cond(lab, 1)
    assert lists.done(2) == done
    with pytest.raises(StoreMissingError):
        lists.condemned(9)


def test_an_epoch_is_published_once(lab):
    lists_of(lab).put(cond(lab, 1))
    with pytest.raises(ObjectExistsError):
        lists_of(lab).put(cond(lab, 1))


def test_a_damaged_list_is_left_out_of_all(lab):
    lists = lists_of(lab)
    lists.put(cond(lab, 1))
    lists.put(cond(lab, 2))
    lab.store.objects[condemned_name(VOLUME, 1)] = b"BSNCOLLE"
    assert lists.after(0) == (2, {2: cond(lab, 2)})
