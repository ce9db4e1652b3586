"""What a place in object storage needs now and then: locks renewed, dead uploads removed. Edge.

Object Lock: the bucket's default retention locks each new object; a source needs no right for that
and can neither shorten nor lift it. Maintenance renews: once less than half of ``lock`` is left,
every object that is listed is locked for ``lock`` from now, ``repo.json`` last. Its lock therefore
says when that was last done to the end, so a round asks for one object only, a run that was killed
is done again, and the cost is one request per object each half of ``lock``.

Deleting works as ever: the store hides the object, and keeps what it held until its lock ends and
the bucket's lifecycle rule removes it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.errors import RefusedError
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.s3_errors import read_answer, told
from blocksnapd.units import format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.store.s3 import S3Store

UPLOAD_S_MAX: Final = 8 * 86_400.0  # a session lasts seven days at most
AT_ONCE: Final = 8
_DAY_S: Final = 86_400
_FOLDERS: Final = ("v/", "m/", "g/", "t/")


@dataclass(frozen=True, slots=True)
class BucketLock:
    """The Object Lock of a bucket; ``default_s`` is 0 where new objects are not locked."""

    mode: str
    default_s: float


def upkeep(store: S3Store) -> tuple[str, ...]:
    """Do what is due; return what was done, as sentences.

    Raises:
        RefusedError: the URL wants a lock that the bucket does not give to new objects.
        StoreError: the store failed; the next round does it.
    """
    said = []
    if count := clear_uploads(store):
        said.append(f"{format_count(count, 'upload')} that nobody finished removed")
    if store.place.lock_s is not None and (count := renew(store, store.place.lock_s)):
        until = format_duration(store.place.lock_s)
        said.append(f"{format_count(count, 'object')} locked for {until} from now")
    return tuple(said)


def bucket_lock(store: S3Store) -> BucketLock | None:
    """Return the bucket's Object Lock, None if it has none.

    Raises:
        StoreError, KeyMissingError: the store does not tell.
    """
    try:
        found = store.clients.admin.get_object_lock_configuration(Bucket=store.place.bucket)
    except Exception as error:
        answer = read_answer(error)
        if answer.code in ("ObjectLockConfigurationNotFoundError", "NotImplemented"):
            return None
        raise told(answer, "read", "the Object Lock configuration", store.url) from error
    rule = found.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    days = rule.get("Days", 0) + 366 * rule.get("Years", 0)
    return BucketLock(rule.get("Mode", ""), float(days * _DAY_S))


def check_lock(store: S3Store, lock_s: float) -> BucketLock:
    """Return the bucket's lock, which locks what is new for ``lock_s`` at least.

    Raises:
        RefusedError: it does not.
    """
    found = bucket_lock(store)
    if found is None or found.default_s < lock_s:
        has = format_duration(found.default_s) if found and found.default_s else "nothing"
        raise RefusedError(
            f"{store.url} wants objects locked for {format_duration(lock_s)}; the bucket's own "
            f"default retention is {has}",
            effect="What a source writes would be without a lock until maintenance comes by.",
            hint="Make the bucket with Object Lock and such a default retention, see "
            "packaging/s3/README.md, or take lock= out of the URL.",
        )
    return found


def renew(store: S3Store, lock_s: float) -> int:
    """Lock all objects for ``lock_s`` from now if that is due; return how many."""
    mode = check_lock(store, lock_s).mode
    answer = _asked(store, REPOSITORY_NAME, lambda **key: store.clients.admin.head_object(**key))
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    until = answer.get("ObjectLockRetainUntilDate")
    if isinstance(until, datetime) and until - now > timedelta(seconds=lock_s / 2):
        return 0
    retention = {"Mode": mode, "RetainUntilDate": now + timedelta(seconds=lock_s)}
    names = [name for folder in _FOLDERS for name in store.list_names(folder)]

    def lock(name: str) -> None:
        _asked(
            store, name,
            lambda **key: store.clients.admin.put_object_retention(**key, Retention=retention),
        )  # fmt: skip

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lock") as pool:
        for _ in pool.map(lock, names):
            pass
    lock(REPOSITORY_NAME)
    return len(names) + 1


def clear_uploads(store: S3Store, age_s: float = UPLOAD_S_MAX) -> int:
    """Remove uploads in parts older than ``age_s`` that nobody finished; return how many."""
    admin, place = store.clients.admin, store.place
    count = 0
    try:
        for page in admin.get_paginator("list_multipart_uploads").paginate(
            Bucket=place.bucket, Prefix=place.prefix
        ):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for upload in page.get("Uploads", []):
                if (now - upload["Initiated"]).total_seconds() >= age_s:
                    admin.abort_multipart_upload(
                        Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    count += 1
    except Exception as error:
        raise told(read_answer(error), "clear", "unfinished uploads", store.url) from error
    return count


def _asked(store: S3Store, name: str, ask: Callable[..., Any]) -> Any:
    try:
        return ask(Bucket=store.place.bucket, Key=store.key(name))
    except Exception as error:
        raise told(read_answer(error), "lock", name, store.url) from error
