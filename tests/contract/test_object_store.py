"""What every ObjectStore must do: directory, object storage, receiver, the fake in their stead."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import (
    BusyError,
    ObjectExistsError,
    RepositoryFormatError,
    StoreFullError,
    StoreMissingError,
)
from blocksnapd.store.files import LocalStore
from blocksnapd.store.names import REPOSITORY_NAME, pack_name
from blocksnapd.store.s3 import S3Store
from blocksnapd.store.steady import Line, SteadyStore
from tests.fakes.memory_objects import MemoryObjects
from tests.receive.before_bucket import BeforeBucket
from tests.receive.behind_ssh import BehindSsh
from tests.receive.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.store.objects import ObjectStore


KINDS = (
    "local", "memory", "steady", "s3", "receiver", "steady receiver", "bucket receiver", "ssh"
)  # fmt: skip


@pytest.fixture(params=KINDS)
def store(request, tmp_path) -> Iterator[ObjectStore]:
    if request.param == "s3":
        yield request.getfixturevalue("seaweed").store()
    elif request.param == "steady":
        yield SteadyStore(LocalStore(str(tmp_path)), Line())
    elif request.param == "ssh":
        with BehindSsh(tmp_path, role="maintainer") as receiver:
            (receiver.root / "db01").mkdir()
            reached = receiver.store()
            yield reached
            reached.close()
    elif request.param == "bucket receiver":
        with BeforeBucket(tmp_path, request.getfixturevalue("seaweed")) as receiver:
            receiver.bucket("db01").put(REPOSITORY_NAME, [b"{}"])
            yield receiver.store("maintainer")
    elif request.param.endswith("receiver"):
        with Running(tmp_path) as receiver:
            (receiver.root / "db01").mkdir()
            reached = receiver.store("maintainer")
            yield SteadyStore(reached, Line()) if "steady" in request.param else reached
    else:
        yield LocalStore(str(tmp_path)) if request.param == "local" else MemoryObjects()


def test_what_was_put_is_what_is_got(store):
    assert store.put("v/a/p/one.pt", [b"abc", memoryview(b"defg"), b""]) == 7
    assert store.get("v/a/p/one.pt", size_max=7) == b"abcdefg"
    assert store.size("v/a/p/one.pt") == 7
    assert store.exists("v/a/p/one.pt")


def test_an_empty_object_is_an_object(store):
    assert store.put("empty", []) == 0
    assert store.exists("empty")
    assert store.get("empty", size_max=0) == b""


def test_a_large_object_in_many_parts(store):
    parts = [bytes([n % 251]) * 70_001 for n in range(40)]
    assert store.put("v/a/d/x.pk", parts) == 40 * 70_001
    assert store.get("v/a/d/x.pk", size_max=1 << 30) == b"".join(parts)


def test_a_pack_of_full_size_comes_whole_and_is_not_written_over(store):
    name = pack_name("vol", "20260102", "p" + "0" * 16, 1, "0" * 8)
    parts = [bytes([n % 251]) * 1_000_003 for n in range(33)]
    assert store.put(name, parts) == 33 * 1_000_003
    with pytest.raises(ObjectExistsError):
        store.put(name, [b"other", *parts])
    assert store.get(name, size_max=1 << 30) == b"".join(parts)
    assert store.get_range(name, 8 << 20, 70) == b"".join(parts)[8 << 20 : (8 << 20) + 70]


@pytest.mark.parametrize(
    ("offset", "size", "found"),
    [
        (0, 3, b"abc"),
        (2, 2, b"cd"),
        (4, 9, b"ef"),
        (6, 1, b""),
        (99, 5, b""),
        (0, 0, b""),
        (1 << 64, 5, b""),
    ],
)
def test_a_range_ends_where_the_object_ends(store, offset, size, found):
    store.put("six", [b"abcdef"])
    assert store.get_range("six", offset, size) == found


def test_a_range_of_absurd_size_costs_no_memory(store):
    store.put("six", [b"abcdef"])
    assert store.get_range("six", 1, 1 << 46) == b"bcdef"


def test_a_taken_name_is_refused_and_not_touched(store):
    store.put("v/a/p/one.pt", [b"first"])
    with pytest.raises(ObjectExistsError):
        store.put("v/a/p/one.pt", [b"second"])
    assert store.get("v/a/p/one.pt", size_max=99) == b"first"


def test_of_many_writers_of_one_name_one_wins(store):
    won, lost = [], []

    def write(value: bytes) -> None:
        try:
            store.put("v/a/p/one.pt", [value])
            won.append(value)
        except ObjectExistsError:
            lost.append(value)

    threads = [threading.Thread(target=write, args=(bytes([n]) * 1000,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 11
    assert store.get("v/a/p/one.pt", size_max=9999) == won[0]


def test_an_object_ages_from_when_it_was_put(store, request):
    is_bucket = "bucket" in request.node.name
    store.put("v/a/p/one.pt", [b"1"])
    first = store.age("v/a/p/one.pt")
    assert -1 < first < 60
    assert store.age("v/a/p/one.pt") >= first
    store.put("v/a/p/two.pt", [b"2"])
    # Clocks tick: a file system's in jiffies, that of object storage in whole seconds.
    tick = 1.0 if isinstance(store, S3Store) or is_bucket else 0.05
    assert store.age("v/a/p/one.pt") >= store.age("v/a/p/two.pt") - tick


@pytest.mark.parametrize("verb", ["get", "get_range", "size", "age"])
def test_a_missing_object_is_said_to_be_missing(store, verb):
    given = {"get": {"size_max": 9}, "get_range": {"offset": 0, "size": 9}}
    args = given.get(verb, {})
    with pytest.raises(StoreMissingError):
        getattr(store, verb)("v/a/p/none.pt", **args)
    assert not store.exists("v/a/p/none.pt")


def test_an_object_beyond_the_limit_is_not_read(store):
    store.put("big", [b"x" * 101])
    with pytest.raises(RepositoryFormatError, match="101"):
        store.get("big", size_max=100)


def test_names_are_listed_whole_and_sorted(store):
    for name in ("v/b/p/1", "v/a/p/2", "v/a/p/1", "v/a/d/20260101/x", "top"):
        store.put(name, [b"."])
    assert store.list_names("v/a/p/") == ["v/a/p/1", "v/a/p/2"]
    assert store.list_names("v/a/") == ["v/a/d/20260101/x", "v/a/p/1", "v/a/p/2"]
    assert store.list_names("v/none/") == []
    assert store.children("v/") == ["a", "b"]
    assert store.children("v/a/") == ["d", "p"]
    assert store.children("w/") == []


def test_deleting_frees_the_name_and_none_there_is_success(store):
    store.put("v/a/x", [b"1"])
    store.delete("v/a/x")
    store.delete("v/a/x")
    assert not store.exists("v/a/x")
    assert store.put("v/a/x", [b"22"]) == 2


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "v/../../x", "v//x", "v/.lock", ".tmp/x", "v/a\0b", "v/a\n", "v/ä",
     "x" * 129, "/".join(["x" * 100] * 6), "v/a/"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused_by_every_verb(store, name):
    for call in (
        lambda: store.put(name, [b""]),
        lambda: store.get(name, size_max=1),
        lambda: store.get_range(name, 0, 1),
        lambda: store.size(name),
        lambda: store.age(name),
        lambda: store.exists(name),
        lambda: store.delete(name),
    ):
        with pytest.raises(RepositoryFormatError, match="cannot be the name"):
            call()


def test_one_writer_at_a_time_under_a_prefix(store):
    lock = store.lock("v/a/")
    with pytest.raises(BusyError):
        store.lock("v/a/")
    other = store.lock("v/b/")
    lock.release()
    lock.release()
    store.lock("v/a/").release()
    other.release()
    assert store.list_names("v/") == []


def test_settling_changes_nothing_that_can_be_seen(store):
    store.put("v/a/p/1", [b"1"])
    store.settle("v/a/p/")
    store.settle("v/none/p/")
    assert store.list_names("v/") == ["v/a/p/1"]


def test_free_size_is_a_number_or_unknown(store):
    free = store.free_size()
    assert free is None or free > 0


def test_the_fake_can_be_full():
    store = MemoryObjects(room=10)
    store.put("a", [b"12345678"])
    with pytest.raises(StoreFullError):
        store.put("b", [b"123"])
    assert not store.exists("b")
