"""An empty place made ready for a repository, whatever its kind. Edge."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import KeyMissingError, RefusedError, StoreError, StoreMissingError
from blocksnapd.receiver_url import is_receiver
from blocksnapd.runtime import durable
from blocksnapd.s3_url import is_s3
from blocksnapd.store.files import LocalStore, local_path
from blocksnapd.store.names import FLOORS_PREFIX, REPOSITORY_NAME
from blocksnapd.store.places import open_store
from blocksnapd.store.s3 import S3Store
from blocksnapd.store.s3_probe import PREFIX, probe
from blocksnapd.store.s3_upkeep import bucket_lock, check_lock
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from blocksnapd.model import Access
    from blocksnapd.store.objects import ObjectStore

_HARMLESS = {"lost+found"}
_NOTHING_YET = {PREFIX.rstrip("/"), FLOORS_PREFIX.rstrip("/")}  # a receiver's floor comes first


@dataclass(frozen=True, slots=True)
class NewPlace:
    """Where nothing is yet; ``notes`` say as sentences what people should know of it."""

    store: ObjectStore
    notes: tuple[str, ...] = ()


def make_place(url: str, access: Access) -> NewPlace:
    """Make sure that ``url`` names a place for a new repository, and open it.

    Raises:
        UsageError: it is of an unknown kind. RefusedError: something is there, or the place cannot
            keep a repository. StoreError: it cannot be used. KeyMissingError: not with these
            credentials.
    """
    if is_s3(url):
        return _in_object_storage(url, access)
    if is_receiver(url):
        return NewPlace(_at_receiver(url, access))
    return NewPlace(_in_directory(local_path(url)))


def _in_object_storage(url: str, access: Access) -> NewPlace:
    store = open_store(url, access)
    _check_empty(set(store.children("")) - _NOTHING_YET, url, "prefix")
    direct = S3Store(url, access)
    locks = _lock_notes(direct)
    return NewPlace(store, (*locks, *probe(direct)))


def _lock_notes(store: S3Store) -> tuple[str, ...]:
    if store.place.lock_s is not None:
        check_lock(store, store.place.lock_s)
        return ()
    try:
        found = bucket_lock(store)
    except KeyMissingError:
        return ()  # a source need not know
    if found is None or not found.default_s:
        return ()
    note = (
        f"The bucket locks each new object for {format_duration(found.default_s)}. Write lock=30d "
        "or so into the URL where the repository is maintained, and maintenance renews the locks "
        "of what is still needed."
    )
    return (note,)


def _at_receiver(url: str, access: Access) -> ObjectStore:
    store = open_store(url, access)
    try:
        found = {REPOSITORY_NAME} if store.exists(REPOSITORY_NAME) else set()
    except StoreMissingError:
        found = set()  # this host keeps nothing there yet
    _check_empty(found, url, "host")
    return store


def _in_directory(root: str) -> LocalStore:
    try:
        _check_empty(set(os.listdir(root)) - _HARMLESS, root, "directory")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"{root} cannot be used: {error.strerror}", effect="Nothing was made.",
                         hint="Give a directory that can be written.") from error  # fmt: skip
    try:
        durable.make_dirs(root)
    except OSError as error:
        raise StoreError(
            f"the directory {root} could not be made: {error.strerror}",
            effect="Nothing was made.",
            hint="Make it yourself, or choose another place.",
        ) from error
    return LocalStore(root)


def _check_empty(found: set[str], place: str, kind: str) -> None:
    if REPOSITORY_NAME in found:
        raise RefusedError(
            f"there is a repository in {place} already",
            effect="It was not touched.",
            hint=f"Use it with its keys, or choose another {kind}.",
        )
    if found:
        raise RefusedError(
            f"{place} is not empty: it holds {min(found)!r}",
            effect="Nothing was made.",
            hint=f"Choose an empty or a new {kind}.",
        )
