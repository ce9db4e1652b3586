"""A receiver before a bucket: a real SeaweedFS behind the real application."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from blocksnapd.config_receive import Host
from blocksnapd.errors import RefusedError, StoreError, StoreMissingError, StoreRefusedError
from blocksnapd.model import Access
from blocksnapd.receive.bucket import BucketRoot
from blocksnapd.receive.fleet import volumes_here
from blocksnapd.receive.metrics import ReceiveMetrics
from blocksnapd.receive.open_root import open_root
from blocksnapd.receive.service import Receiver
from blocksnapd.receive.upkeep import Upkeep, write_floors
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.store.floor import floor_s_of
from blocksnapd.store.init import init_repository
from blocksnapd.store.names import REPOSITORY_NAME, pack_name
from tests.receive.before_bucket import BeforeBucket
from tests.servers.ports import free_ports
from tests.store.support import VOLUME, Lab, make_repository

if TYPE_CHECKING:
    from blocksnapd.store.receiver import ReceiverStore

DAY = 86_400.0


@pytest.fixture
def receiver(tmp_path, seaweed):
    with BeforeBucket(tmp_path, seaweed) as found:
        yield found


def begun(receiver: BeforeBucket, host: str = "db01") -> ReceiverStore:
    """Begin a repository as a source does; return how the source reaches it."""
    store = receiver.store("source", host)
    make_repository(store)
    return store


def test_a_host_begins_with_its_floor_and_stands_among_the_hosts(receiver):
    receiver.tell(floor="30d")
    source, root = receiver.store("source"), open_root(receiver.config)
    with pytest.raises(StoreMissingError, match="no repository on this receiver"):
        source.exists(REPOSITORY_NAME)
    with pytest.raises(StoreMissingError):
        source.put(pack_name("vol", "20260102", "p" + "0" * 16, 1, "0" * 8), [b"x"])
    assert root.hosts() == []
    begun(receiver)
    assert source.exists(REPOSITORY_NAME)
    assert root.hosts() == ["db01"]
    assert floor_s_of(receiver.bucket("db01")) == 30 * DAY
    assert source.free_size() is None


def test_no_credential_of_a_host_can_touch_the_floor(receiver):
    receiver.tell(floor="30d")
    source = begun(receiver)
    (name,) = receiver.bucket("db01").list_names("f/")
    for call in (
        lambda: source.delete(name),
        lambda: source.put(name, [b"{}"]),
        lambda: source.put(name.replace("0001.", "0002."), [b"{}"]),
        lambda: source.get(name, size_max=4096),
        lambda: source.list_names("f/"),
        lambda: source.children("f/"),
        lambda: source.lock("f/"),
    ):
        with pytest.raises(StoreRefusedError):
            call()
    maintainer = receiver.store("maintainer")
    for call in (
        lambda: maintainer.delete(name),
        lambda: maintainer.put(name.replace("0001.", "0002."), [b"{}"]),
    ):
        with pytest.raises(StoreRefusedError, match="maintainer of host db01 may not"):
            call()
    assert floor_s_of(maintainer) == floor_s_of(receiver.bucket("db01")) == 30 * DAY


def test_the_floor_of_the_second_receiver_counts_from_its_first_put(receiver, tmp_path, seaweed):
    begun(receiver)
    assert floor_s_of(receiver.bucket("db01")) == 0
    with BeforeBucket(tmp_path / "b", seaweed, receiver.url, floor="7d") as other:
        name = pack_name("vol", "20260102", "p" + "0" * 16, 1, "0" * 8)
        other.store("source").put(name, [b"x"])
        assert floor_s_of(receiver.bucket("db01")) == 7 * DAY


def test_who_maintains_through_one_receiver_obeys_the_floor_of_the_other(
    receiver, tmp_path, seaweed
):
    source = begun(receiver)
    name = pack_name("vol", "20260102", "p" + "0" * 16, 1, "0" * 8)
    source.put(name, [b"x"])
    with BeforeBucket(tmp_path / "b", seaweed, receiver.url, floor="7d") as other:
        write_floors(other.places.root, other.config)
    with pytest.raises(StoreRefusedError, match="less than 7d 0h ago"):
        receiver.store("maintainer").delete(name)
    assert receiver.bucket("db01").exists(name)


def test_a_floor_that_was_not_heard_at_a_reload_is_said_before_the_next_put(receiver):
    source, place = begun(receiver), receiver.bucket("db01")
    for number, days in enumerate((30, 2)):
        receiver.tell(floor=f"{days}d")  # the bucket was away when SIGHUP came
        source.put(pack_name("vol", "20260102", "p" + "0" * 16, number, "0" * 8), [b"x"])
        assert floor_s_of(place) == days * DAY


def test_a_lock_tells_that_it_is_of_one_receiver(receiver):
    lock = begun(receiver).lock("v/vol/")
    assert not lock.is_everywhere
    lock.release()


def test_what_another_receiver_took_is_found_by_counting(receiver, tmp_path, seaweed):
    begun(receiver)
    root = open_root(receiver.config)
    before = root.used("db01")
    with BeforeBucket(tmp_path / "b", seaweed, receiver.url) as other:
        name = pack_name("vol", "20260102", "p" + "0" * 16, 1, "0" * 8)
        other.store("source").put(name, [b"x" * 70_000])
    assert root.used("db01") == before + 70_000
    assert root.count_again_s <= 300


def test_the_whole_receiver_before_a_bucket(receiver, caplog):
    """Started as the program starts it, told of a floor, asked for the status of all hosts."""
    lab = Lab(store=receiver.store("source"))
    lab.write(range(8))
    lab.commit()
    config = receiver.config.model_copy(update={"defaults": Host(floor="2d", rpo="36500d")})
    listen = config.receive.model_copy(update={"listen": (("127.0.0.1", free_ports(1)[0]),)})
    started = Receiver(config.model_copy(update={"receive": listen}))

    async def start() -> None:
        await started.start()
        await started.serving.stop()

    asyncio.run(start())
    assert "db01: the floor is 2d 0h now; it was none" in caplog.text
    assert floor_s_of(receiver.bucket("db01")) == 2 * DAY
    (volume,) = volumes_here(config, time.time())
    assert (volume.host, volume.volume, volume.state, volume.points) == (
        "db01", VOLUME, "protected", 1,
    )  # fmt: skip


async def test_a_round_reaches_the_bucket_with_the_receiver_s_credentials(receiver, tmp_path):
    url, keys = receiver.bucket("db01").url, tmp_path / "keys"
    receiver.places.root.set_floor("db01", DAY)  # that alone is not in the way of a repository
    init_repository(url, str(keys), access=Access(credentials=receiver.weed.admin))
    receiver.tell(maintenance_key=str(keys / "maintenance.key"))
    metrics = ReceiveMetrics(CollectorRegistry())
    upkeep = Upkeep(receiver.places.root, lambda: receiver.config, metrics, SystemClock())
    await upkeep.maintain("db01")
    lines = generate_latest(metrics.registry).decode()
    assert 'maintenance_last_success_timestamp_seconds{host="db01"}' in lines


def test_a_bucket_that_is_away_is_told_as_the_receiver_s_own_trouble(receiver):
    begun(receiver)
    receiver.receive(root=f"s3://none/x?endpoint={receiver.weed.endpoint}")
    receiver.places.root = open_root(receiver.config)
    receiver.places._known.clear()
    with pytest.raises(StoreError, match="the receiver's bucket: there is no bucket") as told:
        receiver.store("source").exists(REPOSITORY_NAME)
    assert told.value.transient
    assert "On the receiver" in told.value.hint


def test_a_start_tries_the_bucket_out(receiver, caplog):
    caplog.set_level(logging.INFO)
    root = open_root(receiver.config)
    root.check()
    assert root.hosts() == []
    assert receiver.bucket("receiver=").list_names("") == []


def test_a_start_tells_why_it_is_none(tmp_path, seaweed):
    def checked(url: str, credentials: str) -> StoreError:
        with pytest.raises(StoreError) as told:
            BucketRoot(url, credentials, str(tmp_path), "a").check()
        assert "The receiver did not start" in told.value.effect
        assert told.value.hint
        return told.value

    assert checked("s3://vault/x?endpoint=http://127.0.0.1:9", seaweed.admin).transient
    assert checked(seaweed.url(), seaweed.reader).code == "E-KEY"


def test_a_store_that_writes_over_objects_is_refused_at_the_start(tmp_path, rclone):
    root = BucketRoot(rclone.url, rclone.credentials, str(tmp_path / "spool"), "a")
    with pytest.raises(RefusedError, match="over another") as told:
        root.check()
    assert "The receiver did not start" in told.value.effect
