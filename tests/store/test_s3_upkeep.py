"""Object Lock is renewed in time and not more often; uploads that nobody finished go."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from blocksnapd.errors import RefusedError
from blocksnapd.model import Access
from blocksnapd.store.init import init_repository
from blocksnapd.store.places import upkeep_of
from blocksnapd.store.s3_upkeep import bucket_lock, clear_uploads

DAY_S = 86_400
NAMES = ("v/vol/p/1", "v/vol/d/20260102/2", "m/vol/3", "g/vol/4", "t/vol/5")


@pytest.fixture
def locked(seaweed):
    """A prefix of a new bucket whose default retention is four days; its URL wants three."""
    return made_bucket(seaweed, days=4)


def made_bucket(seaweed, *, days: int, lock: str = "3d") -> str:
    """Make a bucket with Object Lock; return the URL of a place in it."""
    bucket, admin = f"locked-{uuid.uuid4().hex[:12]}", seaweed.store().clients.admin
    admin.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    if days:
        admin.put_object_lock_configuration(
            Bucket=bucket,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": days}},
            },
        )
    return seaweed.url().replace("s3://vault/", f"s3://{bucket}/") + (f"&lock={lock}" * bool(lock))


def locks(store) -> dict[str, datetime]:
    """Return until when each object is locked."""
    found = {}
    for name in (*NAMES, "repo.json"):
        head = store.clients.admin.head_object(Bucket=store.place.bucket, Key=store.key(name))
        found[name] = head["ObjectLockRetainUntilDate"]
    return found


def test_the_buckets_lock_is_read(seaweed, locked):
    assert bucket_lock(seaweed.store()) is None
    found = bucket_lock(seaweed.store(locked))
    assert (found.mode, found.default_s) == ("GOVERNANCE", 4 * DAY_S)


def test_locks_are_renewed_once_less_than_half_is_left(seaweed, locked):
    store = seaweed.store(locked)
    access = Access(credentials=seaweed.admin)
    for name in (*NAMES, "repo.json"):
        store.put(name, [b"x"])
    assert upkeep_of(locked, access) == ()  # just made, and locked for four days by the bucket
    before = locks(store)
    longer = locked.replace("lock=3d", "lock=4d")
    half_gone = seaweed.store(longer.replace("lock=4d", "lock=9d"))
    with pytest.raises(RefusedError, match="9d"):
        upkeep_of(half_gone.url, access)
    store.clients.admin.put_object_lock_configuration(
        Bucket=store.place.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 9}},
        },
    )
    assert upkeep_of(half_gone.url, access) == ("6 objects locked for 9d 0h from now",)
    after = locks(store)
    for name in before:
        assert after[name] - before[name] > timedelta(days=4, hours=23)
        assert after[name] - datetime.now(UTC) > timedelta(days=8, hours=23)
    assert upkeep_of(half_gone.url, access) == ()


def test_a_renewal_that_was_killed_is_done_again(seaweed, locked, monkeypatch):
    store = seaweed.store(locked.replace("lock=3d", "lock=9d"))
    for name in (*NAMES, "repo.json"):
        store.put(name, [b"x"])
    monkeypatch.setattr(
        "blocksnapd.store.s3_upkeep.check_lock", lambda store, lock_s: bucket_lock(store)
    )
    whole = locks(store)
    admin = store.clients.admin
    admin.put_object_retention(  # as far as a run came that was killed
        Bucket=store.place.bucket, Key=store.key(NAMES[0]),
        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=9)},
    )  # fmt: skip
    assert upkeep_of(store.url, Access(credentials=seaweed.admin)) != ()
    assert all(locks(store)[n] - whole[n] > timedelta(days=4) for n in whole)


def test_what_is_locked_can_be_hidden_but_not_destroyed(seaweed, locked):
    store = seaweed.store(locked)
    store.put("v/vol/p/1", [b"precious"])
    admin, key = store.clients.admin, store.key("v/vol/p/1")
    version = admin.head_object(Bucket=store.place.bucket, Key=key)["VersionId"]
    store.delete("v/vol/p/1")
    assert not store.exists("v/vol/p/1")
    with pytest.raises(Exception, match="AccessDenied"):
        admin.delete_object(Bucket=store.place.bucket, Key=key, VersionId=version)
    held = admin.get_object(Bucket=store.place.bucket, Key=key, VersionId=version)
    assert held["Body"].read() == b"precious"


def test_init_refuses_a_lock_that_new_objects_do_not_get(seaweed, tmp_path):
    access = Access(credentials=seaweed.admin)
    for days, has in ((0, "nothing"), (2, "2d 0h")):
        url = made_bucket(seaweed, days=days)
        with pytest.raises(RefusedError, match=f"default retention is {has}"):
            init_repository(url, str(tmp_path / "keys"), access=access)
    with pytest.raises(RefusedError, match="default retention is nothing"):
        init_repository(seaweed.url() + "&lock=3d", str(tmp_path / "keys"), access=access)
    assert not (tmp_path / "keys").exists()


def test_init_tells_of_a_lock_that_nobody_renews(seaweed, tmp_path):
    url = made_bucket(seaweed, days=2, lock="")
    report = init_repository(url, str(tmp_path / "keys"), access=Access(credentials=seaweed.admin))
    assert "locks each new object for 2d 0h" in report.notes[0]


def test_only_old_uploads_are_removed(seaweed):
    store = seaweed.store()
    admin, bucket = store.clients.admin, store.place.bucket
    admin.create_multipart_upload(Bucket=bucket, Key=store.key("v/vol/d/20260102/x.pk"))
    assert clear_uploads(store) == 0
    assert clear_uploads(store, age_s=0) == 1
    assert clear_uploads(store, age_s=0) == 0
