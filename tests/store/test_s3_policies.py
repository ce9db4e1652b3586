"""The least that a source and a maintainer must be allowed is enough, and is the least."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blocksnapd.errors import KeyMissingError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.maintainer import Orders
from blocksnapd.maintain.retention import Policy
from blocksnapd.model import Access
from blocksnapd.receive.open_root import open_root
from blocksnapd.receive.upkeep import write_floors
from blocksnapd.service.maintain_targets import Place, maintain_place
from blocksnapd.store.floor import floor_s_of
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.places import open_store
from blocksnapd.store.repository import Repository
from tests.receive.before_bucket import BeforeBucket
from tests.store.support import START, VOLUME, Lab

POLICIES = Path(__file__).resolve().parents[2] / "packaging/s3"
BUCKET, PREFIX, RECEIVED = "policed", "hosts/db01", "received"


def policy(name: str, prefix: str = PREFIX) -> dict:
    """Return one of the files, for the bucket of the tests."""
    text = (POLICIES / f"{name}.json").read_text()
    return json.loads(text.replace("BUCKET", BUCKET).replace("PREFIX", prefix))


def granted(name: str, prefix: str = PREFIX) -> list[dict]:
    """Return the statements of a policy as a bucket's policy has them for one user."""
    user = {"AWS": f"arn:aws:iam::000000000000:user/{name}"}
    return [
        {**statement, "Sid": f"{name}{statement['Sid']}", "Principal": user}
        for statement in policy(name, prefix)["Statement"]
    ]


def url_of(seaweed, prefix: str = PREFIX) -> str:
    return seaweed.url(prefix).replace("s3://vault/", f"s3://{BUCKET}/")


@pytest.fixture(scope="module")
def bucket(seaweed):
    """A bucket with the policies of a source, a maintainer and a receiver."""
    admin = seaweed.store().clients.admin
    admin.create_bucket(Bucket=BUCKET)
    statements = [*granted("source"), *granted("maintainer"), *granted("receiver", RECEIVED)]
    admin.put_bucket_policy(
        Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements})
    )
    return seaweed


@pytest.fixture(scope="module")
def keys(bucket, tmp_path_factory):
    """The report of a repository that an administrator made there."""
    place = tmp_path_factory.mktemp("policed")
    return init_repository(
        url_of(bucket), str(place / "keys"), access=Access(credentials=bucket.admin)
    )


@pytest.mark.parametrize("name", ["source", "maintainer", "receiver", "create-only", "lifecycle"])
def test_each_file_is_json_with_both_names_to_fill_in(name):
    text = (POLICIES / f"{name}.json").read_text()
    assert json.loads(text)
    assert "PREFIX" in text
    if name == "lifecycle":
        return
    assert "BUCKET" in text
    for statement in json.loads(text)["Statement"]:
        assert set(statement) >= {"Sid", "Effect", "Action", "Resource"}
        assert all(action.startswith("s3:") for action in statement["Action"])
        assert all("*" not in action for action in statement["Action"])


def test_a_source_is_given_nothing_that_destroys_or_unlocks():
    actions = {a for s in policy("source")["Statement"] for a in s["Action"]}
    assert actions == {"s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket"}


def test_nobody_may_lift_a_lock_or_delete_a_version():
    actions = {a for s in policy("maintainer")["Statement"] for a in s["Action"]}
    assert not actions & {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"}


@pytest.fixture(scope="module")
def lab(bucket, keys):
    """A volume that a source with no more than its policy protects: two points."""
    store = open_store(url_of(bucket), Access(credentials=bucket.source))
    lab = Lab(store=store, keys=load_restore(keys.restore_key), blocks=9000)
    lab.write(range(9000), noise=True)  # more than one upload takes
    lab.commit()
    lab.write([5])
    lab.commit([5])
    return lab


def test_a_source_protects_a_volume_and_destroys_nothing(bucket, keys, lab):
    access, store = Access(credentials=bucket.source), lab.store
    point = lab.kept[0][0]
    sink = lab.sink(3)
    lab.write([7], noise=True)
    lab.feed(sink, [7])
    sink.abort()  # what it cannot remove stays, and nothing else happens
    names = bucket.store(url_of(bucket)).list_names("v/")
    assert sum(name.endswith(".pt") for name in names) == 2
    for attempt in (
        lambda: store.delete(point.name),
        lambda: store.delete("repo.json"),
        lambda: store.put(f"m/{VOLUME}/0000000000000001.mf", [b"a lie"]),
        lambda: store.put(f"g/{VOLUME}/0000000000000001.done", [b"a lie"]),
        lambda: store.list_names(f"m/{VOLUME}/"),
        lambda: open_store(url_of(bucket, "hosts/db02"), access).list_names("v/"),
        lambda: open_store(url_of(bucket, "hosts/db02"), access).put("v/x/p/1", [b"1"]),
    ):
        with pytest.raises(KeyMissingError, match="not allowed"):
            attempt()
    lab.reader = Repository.open(
        url_of(bucket), access=Access(credentials=bucket.admin), restore_key=keys.restore_key
    )
    lab.check_all()


@pytest.mark.usefixtures("lab")
def test_a_maintainer_does_whole_rounds(bucket, keys, capsys):
    now = START.timestamp() + 3600
    policy = Policy((parse_rule("all for 1s"),), min_points=1, max_delete_pct=100, undelete_us=0)
    place = Place(
        url_of(bucket), Access(credentials=bucket.maintainer), keys.maintenance_key,
        lambda _: Orders(policy, structure_s=0, collect_s=0),
    )  # fmt: skip
    for _ in range(2):
        assert maintain_place(place, as_json=True, now=lambda: now) == 0, capsys.readouterr().out
    told = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert {"pruned", "verified", "state"} <= set(told)
    assert "maintenance-failed" not in told
    assert bucket.store(url_of(bucket)).list_names("m/")


def test_a_maintainer_cannot_take_the_repository_away(bucket, keys):
    store = open_store(url_of(bucket), Access(credentials=bucket.maintainer))
    for attempt in (
        lambda: store.delete("repo.json"),
        lambda: store.put("anything", [b"1"]),
        lambda: open_store(
            url_of(bucket, "hosts/db02"), Access(credentials=bucket.maintainer)
        ).list_names("v/"),
    ):
        with pytest.raises(KeyMissingError, match="not allowed"):
            attempt()


def test_a_receiver_takes_what_hosts_send_and_destroys_nothing(bucket, tmp_path):
    """Tried out at its start, with a floor that changes; and no host's object can it remove."""
    url, access = url_of(bucket, RECEIVED), Access(credentials=bucket.receiver)
    with BeforeBucket(tmp_path, bucket, url, floor="30d", quota="1 GiB") as receiver:
        receiver.receive(credentials=bucket.receiver)
        receiver.places.root = root = open_root(receiver.config)
        assert root.check() == ()
        lab = Lab(store=receiver.store("source"))
        lab.write(range(60))
        lab.commit()
        receiver.tell(floor="7d")
        write_floors(root, receiver.config)
        assert root.hosts() == ["db01"]
        store = open_store(root.url("db01"), access)
        assert floor_s_of(store) == 7 * 86_400
        (floor,) = store.list_names("f/")
        for attempt in (
            lambda: store.delete(lab.kept[0][0].name),
            lambda: store.delete("repo.json"),
            lambda: store.put(f"m/{VOLUME}/0000000000000001.mf", [b"a lie"]),
            lambda: open_store(url_of(bucket), access).list_names("v/"),
            lambda: open_store(url_of(bucket), access).put("repo.json", [b"1"]),
        ):
            with pytest.raises(KeyMissingError, match="not allowed"):
                attempt()
    lab.reader = Repository.on(store, restore=lab.keys)
    lab.check_all()
    maintainer = open_store(url_of(bucket), Access(credentials=bucket.maintainer))
    with pytest.raises(KeyMissingError, match="not allowed"):
        maintainer.put(floor, [b"{}"])  # nor can who maintains shorten what a receiver says
