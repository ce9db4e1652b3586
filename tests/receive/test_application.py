"""A receiver as sources see it: create-only, within the own prefix, told why not."""

from __future__ import annotations

import os

import pytest

from blocksnapd.errors import (
    ClockOffsetError,
    ObjectExistsError,
    QuotaError,
    RepositoryFormatError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreRefusedError,
)
from blocksnapd.receive.caller import Caller
from blocksnapd.receive.places import HostPlace
from blocksnapd.receive.usage import OBJECT_SIZE_MIN
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.names import point_name
from tests.receive.running import Running

PACK = "v/vol/d/20261123/p" + "7" * 16 + "-{:04x}-0123abcd.pk"


@pytest.fixture
def receiver(tmp_path):
    with Running(tmp_path) as running:
        init_repository(str(running.root / "db01"), str(tmp_path / "keys"))
        yield running


def test_hosts_do_not_meet(receiver):
    """The name of another host is in no request: what is asked for is one's own."""
    mine, theirs = receiver.store("source", "db01"), receiver.store("reader", "db02")
    mine.put(PACK.format(1), [b"mine"])
    with pytest.raises(StoreMissingError, match="db02 has no repository"):
        theirs.get(PACK.format(1), size_max=9)
    assert (receiver.root / "db01" / PACK.format(1)).read_bytes() == b"mine"


def test_a_source_overwrites_and_removes_nothing(receiver):
    store = receiver.store("source")
    before = (receiver.root / "db01" / "repo.json").read_bytes()
    with pytest.raises(ObjectExistsError):
        store.put("repo.json", [before + b" "])
    store.put(PACK.format(1), [b"first"])
    with pytest.raises(ObjectExistsError, match="says: v/vol/d"):
        store.put(PACK.format(1), [b"other"])
    with pytest.raises(StoreRefusedError, match="may not delete"):
        store.delete(PACK.format(1))
    assert (receiver.root / "db01" / "repo.json").read_bytes() == before
    assert (receiver.root / "db01" / PACK.format(1)).read_bytes() == b"first"


def test_history_is_neither_listed_nor_read(receiver):
    local = LocalStore(str(receiver.root / "db01"))
    names = [point_name("vol", seq, f"p{seq:016x}") for seq in range(1, 6)]
    for name in names:
        local.put(name, [b"sealed"])
    store = receiver.store("source")
    assert store.list_names("v/vol/p/") == names[-2:]
    assert store.get(names[-2], size_max=9) == b"sealed"
    assert store.get_range(names[-1], 2, 2) == b"al"
    for name in names[:-2]:
        for call in (store.size, store.exists, lambda n: store.get(n, size_max=9)):
            with pytest.raises(StoreRefusedError):
                call(name)
    reader = receiver.store("reader")
    assert reader.list_names("v/vol/p/") == names
    assert reader.get(names[0], size_max=9) == b"sealed"
    with pytest.raises(StoreRefusedError, match="reader of host db01 may not put"):
        reader.put(PACK.format(1), [b""])


def test_what_is_no_point_does_not_become_one(receiver):
    store = receiver.store("source")
    with pytest.raises(RepositoryFormatError, match="not a point"):
        store.put(point_name("vol", 1, "p" + "1" * 16), [b"x" * 100])
    assert store.list_names("v/vol/p/") == []


def test_a_quota_is_told_before_the_bytes_are_sent(receiver):
    store = receiver.store("source")
    store.put(PACK.format(1), [b"x" * 10_000])
    files = (f.stat().st_size for f in receiver.root.rglob("*") if f.is_file())
    used = sum(max(size, OBJECT_SIZE_MIN) for size in files)
    receiver.tell(quota=f"{used + 5000} B")
    assert store.free_size() == 5000
    with pytest.raises(QuotaError, match="quota of host db01") as told:
        store.put(PACK.format(2), [b"x" * (4 << 20)])
    assert told.value.effect
    assert told.value.hint
    assert receiver.heard[-1] == ("db01", "put", "E-QUOTA", 0)
    store.put(PACK.format(3), [b"x" * 5000])
    with pytest.raises(QuotaError):
        store.put(PACK.format(4), [b"x"])
    assert receiver.store("source", "db02").free_size() == used + 5000


def test_room_for_maintenance_stays_free(receiver):
    free = os.statvfs(receiver.root).f_bavail * os.statvfs(receiver.root).f_frsize
    receiver.config = receiver.config.model_copy(
        update={"receive": receiver.config.receive.model_copy(update={"reserve": free * 2})}
    )
    store = receiver.store("source")
    assert store.free_size() == 0
    with pytest.raises(StoreFullError, match="no room") as told:
        store.put(PACK.format(1), [b"x"])
    assert told.value.code == "E-REPO-FULL"


def test_a_directory_that_is_not_mounted_is_told_at_the_next_put(receiver):
    """It is not made anew beneath: points would be where nobody looks for them later."""
    store = receiver.store("source")
    store.put(PACK.format(1), [b"1"])
    receiver.root.rename(receiver.root.with_name("elsewhere"))
    with pytest.raises(StoreMissingError, match="is gone") as caught:
        store.put(PACK.format(2), [b"2"])
    assert caught.value.hint == "Mount it again."
    assert "snapshot goes on tracking" in caught.value.effect
    assert not receiver.root.exists()


@pytest.mark.parametrize("offset_s", [-3600, 3600])
def test_a_clock_that_is_off_is_told(receiver, offset_s):
    real = receiver.clock
    receiver.clock = lambda: real() + offset_s
    store = receiver.store("source")
    with pytest.raises(ClockOffsetError, match="clock of host db01 is") as told:
        store.lock("v/vol/")
    assert "NTP" in told.value.hint
    assert abs(store.clock_offset_s - offset_s) < 60
    receiver.clock = real
    store.lock("v/vol/").release()


def test_a_blocked_host_and_a_strangers_certificate(receiver):
    receiver.tell(blocked=True)
    with pytest.raises(StoreRefusedError, match="is blocked"):
        receiver.store("source").list_names("v/vol/p/")
    receiver.tell(remote_maintenance=False)
    with pytest.raises(StoreRefusedError, match="not maintained from elsewhere"):
        receiver.store("maintainer").list_names("v/vol/p/")


def test_nothing_young_is_deleted_from_elsewhere(receiver):
    receiver.tell(floor="30d")
    store = receiver.store("maintainer")
    store.put(PACK.format(1), [b"x"])
    with pytest.raises(StoreRefusedError, match="arrived here less than 30d"):
        store.delete(PACK.format(1))
    path = receiver.root / "db01" / PACK.format(1)
    os.utime(path, (path.stat().st_mtime - 31 * 86400,) * 2)
    store.delete(PACK.format(1))
    assert not path.exists()


def test_any_byte_stream_will_do(receiver):
    """Whoever serves the application says who calls; there is no TLS, no port."""

    class Dialer:
        host = "stdio"

        def dial(self):
            return receiver.stream(Caller("db01", "source"))

    store = receiver.opened(Dialer())
    store.put(PACK.format(1), [b"y" * (3 << 20)])
    assert (receiver.root / "db01" / PACK.format(1)).stat().st_size == 3 << 20
    with pytest.raises(StoreRefusedError):
        store.delete(PACK.format(1))


def test_a_repository_begins_with_its_file(receiver, tmp_path):
    store = receiver.store("source", "new")
    with pytest.raises(StoreMissingError, match="new has no repository"):
        store.put(PACK.format(1), [b"x"])
    with pytest.raises(RepositoryFormatError):
        store.put("repo.json", [b"{}"])
    store.put("repo.json", [(receiver.root / "db01" / "repo.json").read_bytes()])
    store.put(PACK.format(1), [b"x"])
    with pytest.raises(StoreError):
        receiver.store("reader", "nobody").list_names("v/")


@pytest.mark.parametrize("error", [StoreError("the disk broke"), OSError("it did")])
def test_an_error_within_an_answer_never_passes_for_data(receiver, monkeypatch, error):
    """The rest of an object that cannot be read is no answer at all, not the words of an error."""
    store = receiver.store("maintainer")
    store.put("big", [b"x" * (3 << 20)])

    def fail(self, name, offset, size):
        raise error

    whole = HostPlace.piece
    monkeypatch.setattr(HostPlace, "piece", lambda *a: (fail if a[2] else whole)(*a))
    with pytest.raises(StoreError, match="connection"):
        store.get("big", size_max=1 << 30)
    monkeypatch.undo()
    assert store.get("big", size_max=1 << 30) == b"x" * (3 << 20)
