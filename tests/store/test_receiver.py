"""The client of a receiver: lost answers, broken connections, hostile words; against a real one."""

from __future__ import annotations

import threading

import pytest

from blocksnapd.errors import (
    ObjectExistsError,
    RepositoryFormatError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.model import Access
from blocksnapd.receive.caller import Caller
from blocksnapd.store.receiver import ReceiverStore, open_receiver
from blocksnapd.store.steady import Line, Means, SteadyStore
from tests.receive.running import Dialer, Running


@pytest.fixture
def receiver(tmp_path):
    with Running(tmp_path) as running:
        (running.root / "db01").mkdir()
        yield running


@pytest.fixture
def dialer(receiver):
    return Dialer(receiver)


@pytest.fixture
def store(receiver, dialer):
    return receiver.opened(dialer)


@pytest.mark.parametrize("size", [0, 5, 70_000])
def test_a_lost_answer_to_a_put_is_found_out(receiver, store, dialer, size):
    """The object is there, whole, and the second try says so instead of a taken name."""
    dialer.lost_answers = 1
    assert store.put("v/a/p/one.pt", [b"x" * size]) == size
    assert (receiver.root / "db01/v/a/p/one.pt").read_bytes() == b"x" * size
    assert [said[1:3] for said in receiver.heard] == [("put", ""), ("put", "")]


def test_another_writers_object_is_not_taken_for_ones_own(store, dialer):
    store.put("v/a/p/one.pt", [b"theirs"])
    dialer.lost_answers = 1
    with pytest.raises(ObjectExistsError):
        store.put("v/a/p/one.pt", [b"mine!!"])
    assert store.get("v/a/p/one.pt", size_max=9) == b"theirs"


@pytest.mark.parametrize("cut", [0, 100, 70_000, 2_500_000])
def test_a_put_that_broke_anywhere_goes_on(receiver, store, dialer, cut):
    dialer.cut_after = cut
    data = [bytes([n]) * 250_000 for n in range(12)]
    assert store.put("v/a/d/x.pk", data) == 3_000_000
    assert store.get("v/a/d/x.pk", size_max=1 << 30) == b"".join(data)
    assert dialer.dialed > 1
    assert list((receiver.root / "db01/v/a/.tmp").iterdir()) == []


def test_reading_is_tried_again(store, dialer):
    store.put("v/a/p/one.pt", [b"abc"])
    for read in (lambda: store.get("v/a/p/one.pt", size_max=3), lambda: store.list_names("v/")):
        dialer.lost_answers = 1
        assert read()
    dialer.lost_answers = 99
    with pytest.raises(StoreError, match="cut before the answer") as told:
        store.exists("v/a/p/one.pt")
    assert told.value.retryable
    assert told.value.hint


def test_connections_are_used_again(store, dialer):
    for n in range(20):
        store.put(f"v/a/p/{n}", [b"x"])
        assert store.exists(f"v/a/p/{n}")
        with pytest.raises(StoreMissingError):
            store.get("v/a/p/none", size_max=1)
    assert dialer.dialed == 1


def test_many_threads_share_one_place(store):
    def work(n: int) -> None:
        for at in range(5):
            store.put(f"v/a/p/{n}-{at}", [b"x" * n])
            assert store.get(f"v/a/p/{n}-{at}", size_max=99) == b"x" * n

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.list_names("v/a/p/")) == 60


@pytest.mark.parametrize(
    "url",
    ["https://", "https://h:0x/", "https://h:99999/", "https://h:1/path", "https://u@h:1/"],
)
def test_what_is_no_address_of_a_receiver_is_refused(url):
    with pytest.raises(UsageError, match="is not a receiver's address"):
        open_receiver(url, Access(ca="a", cert="b", key="c"))


def test_without_a_certificate_there_is_no_way_in():
    with pytest.raises(UsageError, match="without a certificate"):
        open_receiver("https://localhost:1/", Access())


def test_connections_are_shared_by_all_that_open_one_place():
    access = Access(ca="a", cert="b", key="c")
    assert open_receiver("https://h:1/", access) is open_receiver("https://h:1/", access)
    assert open_receiver("https://h:1/", access) is not open_receiver("https://h:2/", access)


def test_nothing_larger_than_wanted_is_read(store):
    store.put("big", [b"x" * 500_000])
    with pytest.raises(RepositoryFormatError, match="500000"):
        store.get("big", size_max=1000)
    assert isinstance(store, ReceiverStore)


def test_a_source_that_reads_no_packs_still_finds_out_about_its_own(receiver):
    """Both tries of one call lose their answer: the next call of the steadied place asks again."""
    pack = "v/vol/d/20261123/p" + "7" * 16 + "-0001-0123abcd.pk"
    dialer = Dialer(receiver, Caller("db01", "source"))
    steady = SteadyStore(receiver.opened(dialer), Line(means=Means(sleep=lambda _: None)))
    dialer.lost_answers = 3
    assert steady.put(pack, [b"x" * 1000, b"y" * 1000]) == 2000
    assert dialer.lost_answers == 0
    with pytest.raises(ObjectExistsError):
        steady.put(pack, [b"x" * 1000, b"z" * 1000])


def test_what_was_never_answered_is_remembered_for_a_while_only(store, dialer, monkeypatch):
    monkeypatch.setattr("blocksnapd.store.receiver.UNANSWERED_MAX", 5)
    dialer.is_down = True
    store.close()
    for n in range(20):
        with pytest.raises(StoreError):
            store.put(f"v/a/p/{n}", [b"x"])
    assert list(store._unanswered) == []  # no connection: nothing can have arrived
    dialer.is_down = False
    dialer.lost_answers = 99
    for n in range(20):
        with pytest.raises(StoreError):
            store.put(f"v/a/d/{n}", [b"x"])
    assert list(store._unanswered) == [f"v/a/d/{n}" for n in range(15, 20)]
    dialer.lost_answers = 0
    assert store.put("v/a/d/19", [b"x"]) == 1
    assert "v/a/d/19" not in store._unanswered
