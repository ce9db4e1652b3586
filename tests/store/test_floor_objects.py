"""The floor of a repository in a bucket: the longest that any receiver says, or nobody forgets."""

from __future__ import annotations

import pytest

from blocksnapd.errors import RepositoryFormatError, StateError, StoreRefusedError
from blocksnapd.store.floor import floor_s_of
from blocksnapd.store.floor_objects import (
    keeper_id,
    pack_floor,
    put_floor,
    unpack_floor,
)
from blocksnapd.store.names import floor_name
from tests.fakes.memory_objects import MemoryObjects

DAY = 86_400.0
A, B = "backup1:/etc/a.toml", "backup2:/etc/b.toml"


def test_what_is_written_holds_until_its_keeper_says_otherwise():
    store = MemoryObjects()
    assert put_floor(store, A, None) == ""
    assert store.list_names("f/") == []
    assert put_floor(store, A, 30 * DAY) == "the floor is 30d 0h now; it was none"
    assert put_floor(store, A, 30 * DAY) == ""
    assert store.list_names("f/") == [floor_name(keeper_id(A), 1)]
    assert floor_s_of(store) == 30 * DAY
    assert put_floor(store, A, 7 * DAY) == "the floor is 7d 0h now; it was 30d 0h"
    assert store.list_names("f/") == [floor_name(keeper_id(A), 2)]
    assert floor_s_of(store) == 7 * DAY
    assert put_floor(store, A, None) == "the floor is none now; it was 7d 0h"
    assert floor_s_of(store) == 0


@pytest.mark.parametrize("order", [(A, B), (B, A)])
def test_of_two_receivers_the_longer_floor_counts_whoever_started_last(order):
    store, said = MemoryObjects(), {A: 30 * DAY, B: 7 * DAY}
    for keeper in order:
        put_floor(store, keeper, said[keeper])
    assert floor_s_of(store) == 30 * DAY
    put_floor(store, A, DAY)
    assert floor_s_of(store) == 7 * DAY


def test_who_may_not_delete_is_heard_all_the_same(monkeypatch):
    store = MemoryObjects()
    put_floor(store, A, 30 * DAY)

    def refuse(_: str) -> None:
        raise StoreRefusedError("no deleting here")

    monkeypatch.setattr(store, "delete", refuse)
    put_floor(store, A, 7 * DAY)
    assert len(store.list_names("f/")) == 2
    assert floor_s_of(store) == 7 * DAY


def test_two_processes_of_one_receiver_do_not_trip_over_each_other(monkeypatch):
    store = MemoryObjects()
    seen = store.list_names("f/")
    put_floor(store, A, 30 * DAY)
    listed = iter([seen])
    real = store.list_names
    monkeypatch.setattr(store, "list_names", lambda prefix: next(listed, None) or real(prefix))
    assert put_floor(store, A, 7 * DAY) == "the floor is 7d 0h now; it was 30d 0h"
    assert floor_s_of(store) == 7 * DAY


def test_one_that_vanishes_while_it_is_read_was_replaced(monkeypatch):
    store = MemoryObjects()
    put_floor(store, A, DAY)
    stale, real = [store.list_names("f/")], store.list_names
    put_floor(store, A, 2 * DAY)
    monkeypatch.setattr(store, "list_names", lambda prefix: stale.pop() if stale else real(prefix))
    assert floor_s_of(store) == 2 * DAY
    monkeypatch.setattr(store, "list_names", lambda _: [floor_name(keeper_id(A), 1)])
    with pytest.raises(StateError, match="cannot be found"):
        floor_s_of(store)


def test_every_flipped_byte_and_every_cut_stops_everybody():
    whole, name = pack_floor(30 * DAY, A), floor_name(keeper_id(A), 1)
    assert unpack_floor(whole, name) == (30 * DAY, A)
    body = whole.rstrip(b"\n")
    broken = [body[:n] for n in range(len(body))]
    broken += [
        body[:n] + bytes([body[n] ^ flip]) + body[n + 1 :]
        for n in range(len(body))
        for flip in (1, 0x20, 0x80)
    ]
    for data in broken:
        try:
            assert unpack_floor(data, name) == (30 * DAY, A)  # e.g. an escaped letter's case
        except RepositoryFormatError:
            store = MemoryObjects()
            store.put(name, [data])
            with pytest.raises(StateError, match="how long points must be kept"):
                floor_s_of(store)
            assert put_floor(store, A, DAY) == "the floor is 1d 0h now; it was unreadable"
            assert floor_s_of(store) == DAY


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"floor_s": 1}', b'{"floor_s": NaN}', b"[" * 4000, b"\xff" * 99]
)
def test_nonsense_is_told_as_such(data):
    with pytest.raises(RepositoryFormatError):
        unpack_floor(data, floor_name(keeper_id(A), 1))


def test_a_strange_name_there_stops_everybody():
    store = MemoryObjects()
    store.put(f"f/{keeper_id(A)}-what", [b""])
    assert put_floor(store, A, DAY) == "the floor is 1d 0h now; it was none"
    with pytest.raises(StateError, match="not the name of a floor"):
        floor_s_of(store)


def test_a_copy_of_a_bucket_in_a_directory_keeps_its_floor(tmp_path):
    from blocksnapd.store.files import LocalStore

    store = LocalStore(str(tmp_path))
    put_floor(store, A, DAY)
    assert floor_s_of(store) == DAY
