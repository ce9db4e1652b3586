"""Which blocks are stored and which are found; against a dictionary that forgets nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.model import KNOWN_PACK, NOWHERE
from blocksnapd.store import session_dedup
from blocksnapd.store.session_dedup import SessionDedup


def identities(ids) -> np.ndarray:
    """Identities of contents 1, 2, …: random, but always the same."""
    rows = [np.random.default_rng(i).integers(0, 256, 16, dtype=np.uint8) for i in ids]
    return np.array(rows, dtype=np.uint8).reshape(-1, 16)


class Shelf:
    """Stores blocks at 100, 101 and so on."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def put(self, ids):
        def store(which):
            first = 100 + len(self.ids)
            self.ids += [ids[i] for i in which.tolist()]
            return np.arange(first, first + len(which), dtype=np.uint64)

        return store

    def at(self, location: int) -> int:
        return self.ids[location - 100]


@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=20), min_size=1, max_size=8))
def test_each_content_is_stored_once_and_found_where_it_lies(batches):
    dedup, shelf = SessionDedup(None, bits_max=17), Shelf()
    for ids in batches:
        locations = dedup.place(identities(ids), shelf.put(ids))
        assert [shelf.at(x) for x in locations.tolist()] == ids
    assert sorted(shelf.ids) == sorted({i for ids in batches for i in ids})


def same_entry(count: int) -> np.ndarray:
    """Different identities that fall into one entry of any table."""
    rows = identities(range(1, count + 1))
    rows[:, :8] = rows[0, :8]
    return rows


def test_identities_that_share_an_entry_are_never_mixed_up():
    """In one batch and over batches: stored again at worst, never taken for one another."""
    rows, dedup, shelf = same_entry(5), SessionDedup(None), Shelf()
    for ids in ([1, 2, 3, 4, 5, 1], [5, 4], [1], [1], [2, 1, 2]):
        locations = dedup.place(rows[np.array(ids) - 1], shelf.put(ids))
        assert [shelf.at(x) for x in locations.tolist()] == ids
    assert len(shelf.ids) < 14  # the batch of one, at least, was found again


@pytest.mark.parametrize("byte", [0, 7, 8, 15])
def test_one_bit_of_difference_is_a_difference(byte):
    dedup, shelf = SessionDedup(None), Shelf()
    rows = identities([1, 1])
    rows[1, byte] ^= 1
    assert len(set(dedup.place(rows, shelf.put([1, 2])).tolist())) == 2
    assert len(set(dedup.place(rows[::-1], shelf.put([2, 1])).tolist())) == 2


class Known:
    """A newest point that has content 7 only."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def find(self, hashes):
        self.asked.append(len(hashes))
        is_seven = (hashes == identities([7])).all(axis=1)
        return np.where(is_seven, KNOWN_PACK | np.uint64(5 << 32 | 3), NOWHERE)

    def pack(self, number): ...

    def note(self, blocks, hashes, locations): ...


def test_what_the_newest_point_has_is_not_stored():
    known, shelf = Known(), Shelf()
    dedup = SessionDedup(known)
    ids = [7, 1, 7, 2, 1]
    locations = dedup.place(identities(ids), shelf.put(ids))
    old = int(KNOWN_PACK) | 5 << 32 | 3
    assert locations.tolist() == [old, 100, old, 101, 100]
    assert shelf.ids == [1, 2]
    dedup.place(identities([1, 2, 9]), shelf.put([1, 2, 9]))
    assert known.asked == [5, 1]  # what the session knows is not asked for


def test_a_full_table_forgets_and_goes_on():
    dedup, shelf = SessionDedup(None, bits_max=17), Shelf()
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (200_000, 16), dtype=np.uint8)
    everything = np.arange(len(rows))
    for _ in range(2):
        for part in np.array_split(everything, 200):
            ids = part.tolist()
            locations = dedup.place(rows[part], shelf.put(ids))
            assert [shelf.at(x) for x in locations.tolist()] == ids
    assert 200_000 < len(shelf.ids) <= 400_000


def runs(locations: np.ndarray) -> int:
    return 1 + int((np.diff(locations.astype(np.int64)) != 1).sum())


def test_a_long_stretch_of_one_content_is_a_stripe_again_and_again():
    dedup, shelf = SessionDedup(None), Shelf()
    ids = [5] + [1] * 1000 + [2] * 20 + [5]
    first = dedup.place(identities(range(1, 6))[np.array(ids) - 1], shelf.put(ids))
    assert [shelf.at(x) for x in first.tolist()] == ids
    assert len(shelf.ids) == 128 + 2
    assert shelf.ids == sorted(shelf.ids, key=[5, 1, 2].index)  # in the order of blocks
    assert runs(first) < 40
    again = dedup.place(identities([1])[np.zeros(1024, dtype=int)], shelf.put([1] * 1024))
    assert {shelf.at(x) for x in again.tolist()} == {1}
    assert runs(again) == 8
    assert len(shelf.ids) == 130
    assert dedup.place(identities([1]), shelf.put([1])).tolist()  # a single one is not striped


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 400)), max_size=6), st.integers(1, 300))
def test_stretches_of_any_length_are_where_they_lie(pieces, batch):
    dedup, shelf = SessionDedup(None, bits_max=16), Shelf()
    every = [content for content, count in pieces for _ in range(count)]
    table = identities(range(1, 4))
    for at in range(0, len(every), batch):
        ids = every[at : at + batch]
        locations = dedup.place(table[np.array(ids) - 1], shelf.put(ids))
        assert [shelf.at(x) for x in locations.tolist()] == ids
    assert len(shelf.ids) <= 3 * 129


def test_stripes_are_forgotten_before_they_are_too_many(monkeypatch):
    monkeypatch.setattr(session_dedup, "_STRIPES_MAX", 3)
    dedup, shelf = SessionDedup(None), Shelf()
    table = identities(range(1, 6))
    for contents in [[1], [2], [3, 1, 4, 2], [5, 1], [1, 2, 5], [3, 4]] * 2:
        ids = [content for content in contents for _ in range(200)]
        locations = dedup.place(table[np.array(ids) - 1], shelf.put(ids))
        assert [shelf.at(x) for x in locations.tolist()] == ids
