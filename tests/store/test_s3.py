"""Object storage over a bad line, and with a server that is killed: nothing is lost or doubled."""

from __future__ import annotations

import random
import threading
import time

import pytest

from blocksnapd.errors import (
    KeyMissingError,
    ObjectExistsError,
    StoreError,
    StoreFullError,
    StoreMissingError,
)
from blocksnapd.store import s3
from blocksnapd.store.names import pack_name
from tests.servers.bad_line import BadLine

POINT = "v/vol/p/0000000000000001-p0000000000000000.pt"
PACK = pack_name("vol", "20260102", "p" + "0" * 16, 1, "0" * 8)
LARGE = random.Random(1).randbytes(s3.WHOLE_SIZE_MAX + 12_345)


@pytest.fixture
def line(seaweed):
    with BadLine("127.0.0.1", seaweed.ports["s3"]) as found:
        yield found


@pytest.fixture
def pair(seaweed, line):
    """The same place twice: over the bad line, opened as everybody does, and beside it."""
    url = seaweed.url()
    return seaweed.opened(url.replace(seaweed.endpoint, line.endpoint)), seaweed.store(url)


@pytest.mark.parametrize("fault", ["lost-answer", "lost-request", "503", "500", "409"])
@pytest.mark.parametrize(("name", "data"), [(POINT, b"a point"), (PACK, LARGE)])
def test_whatever_the_line_does_a_put_ends_as_success(pair, line, fault, name, data):
    far, near = pair
    line.faults = [fault, fault]
    assert far.put(name, [data]) == len(data)
    assert line.faults == []
    assert near.get(name, size_max=1 << 30) == data


@pytest.mark.parametrize("fault", ["lost-answer", "lost-request", "503", "409"])
def test_the_last_request_of_an_upload_in_parts_may_be_lost(pair, line, fault):
    far, near = pair
    line.hits = lambda method, path: method == "POST" and "uploadId=" in path
    line.faults = [fault]
    assert far.put(PACK, [LARGE]) == len(LARGE)
    assert line.faults == []
    assert near.get(PACK, size_max=1 << 30) == LARGE


@pytest.mark.parametrize("fault", ["lost-answer", "lost-request", "503", "409"])
@pytest.mark.parametrize(("name", "data"), [(POINT, b"ours"), (PACK, LARGE)])
def test_another_object_of_the_name_is_never_success(pair, line, fault, name, data):
    far, near = pair
    near.put(name, [b"theirs"])
    line.faults = [fault]
    with pytest.raises(ObjectExistsError):
        far.put(name, [data])
    assert near.get(name, size_max=99) == b"theirs"


def test_a_condition_and_a_checksum_are_sent_with_every_object(pair, line):
    far, _ = pair
    far.put(POINT, [b"a point"])
    method, _, headers = line.seen[-1]
    sent = {name.lower(): value for name, value in headers.items()}
    assert method == "PUT"
    assert sent["if-none-match"] == "*"
    assert sent["x-amz-checksum-sha256"]
    del line.seen[:]
    far.put(PACK, [LARGE])
    parts = [h for m, p, h in line.seen if m == "PUT"]
    assert len(parts) == 3
    assert all("x-amz-checksum-sha256" in {n.lower() for n in h} for h in parts)
    last = [h for m, p, h in line.seen if m == "POST"][-1]
    assert {n.lower(): v for n, v in last.items()}["if-none-match"] == "*"


def test_what_no_trying_again_mends_is_told(pair, line):
    far, near = pair
    line.faults = ["507"] * 99
    with pytest.raises(StoreFullError):
        far.put(POINT, [b"x"])
    assert not near.exists(POINT)


def test_a_clock_that_is_wrong_is_told(seaweed, line):
    far = seaweed.store(seaweed.url().replace(seaweed.endpoint, line.endpoint))
    line.hits = lambda method, path: True
    line.faults = ["403"]
    with pytest.raises(StoreError, match="RequestTimeTooSkewed") as found:
        far.get(POINT, size_max=9)
    assert "NTP" in found.value.hint


def test_a_store_that_nobody_answers_for_is_told(seaweed):
    with BadLine("127.0.0.1", seaweed.ports["s3"]) as line:
        store = seaweed.store(seaweed.url().replace(seaweed.endpoint, line.endpoint))
    with pytest.raises(StoreError) as found:
        store.put(POINT, [b"x"])
    assert found.value.transient
    assert "network" in found.value.hint


def test_who_may_not_write_is_told_at_once(seaweed):
    url = seaweed.url()
    store = seaweed.opened(url, seaweed.reader)
    assert store.list_names("v/") == []
    with pytest.raises(KeyMissingError, match="not allowed"):
        store.put(POINT, [b"x"])
    assert not seaweed.store(url).exists(POINT)


def test_reading_goes_on_over_a_bad_line(pair, line):
    far, near = pair
    near.put(POINT, [b"abcdef"])
    line.hits = lambda method, path: True
    for read in (
        lambda: far.get(POINT, size_max=9) == b"abcdef",
        lambda: far.get_range(POINT, 2, 2) == b"cd",
        lambda: far.size(POINT) == 6,
        lambda: far.exists(POINT),
        lambda: far.list_names("v/vol/") == [POINT],
        lambda: far.children("v/") == ["vol"],
        lambda: 0 <= far.age(POINT) < 60,
    ):
        for fault in ("503", "lost-answer", "lost-request"):
            line.faults = [fault]
            assert read()
            assert line.faults == []


def test_a_bucket_that_is_gone_is_told_and_never_means_no_object(seaweed):
    store = seaweed.store(seaweed.url().replace("s3://vault/", "s3://nowhere/"))
    for call in (
        lambda: store.exists(POINT),
        lambda: store.get(POINT, size_max=9),
        lambda: store.list_names("v/"),
        lambda: store.children("v/"),
    ):
        with pytest.raises(StoreMissingError, match="no bucket"):
            call()


def test_a_listing_of_many_pages_is_whole(seaweed):
    store = seaweed.store()
    names = [f"v/vol/t/{number:05}" for number in range(1100)]
    for name in names:
        store.put(name, [b""])
    assert store.list_names("v/vol/") == names


@pytest.mark.parametrize(("name", "data"), [(POINT, LARGE), (PACK, LARGE)])
def test_a_server_that_is_killed_in_the_middle_of_a_put(own_seaweed, name, data):
    """Killed at several instants of a put and started again: the put ends as success."""
    for round_number, delay_s in enumerate((0.02, 0.1)):
        store = own_seaweed.opened(own_seaweed.url(f"round{round_number}"))
        store.put("repo.json", [b"{}"])
        failed: list[BaseException] = []

        def put(store=store, failed=failed) -> None:
            try:
                assert store.put(name, [data]) == len(data)
            except BaseException as error:
                failed.append(error)

        writer = threading.Thread(target=put)
        writer.start()
        time.sleep(delay_s)
        own_seaweed.kill()
        own_seaweed.start()
        writer.join()
        assert not failed, failed
        assert store.get(name, size_max=1 << 30) == data
        assert store.get("repo.json", size_max=99) == b"{}"
