"""The lists and proofs that collections of a volume published. Edge. Thread-safe.

Takes the hash key only, so that sources read them as well as maintenance does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.errors import FormatError, StoreMissingError
from blocksnapd.store.collection_format import (
    COLLECTION_SIZE_MAX,
    Condemned,
    Done,
    pack_collection,
    unpack_collection,
)
from blocksnapd.store.names import (
    collections_prefix,
    condemned_name,
    done_name,
    parse_collection_name,
)

if TYPE_CHECKING:
    from blocksnapd.store.keys import SourceKey
    from blocksnapd.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Published:
    """The epochs that have a list, and those that have a proof; both ascend."""

    lists: tuple[int, ...]
    done: tuple[int, ...]

    @property
    def seen(self) -> int:
        """The highest epoch of all; 0 for none."""
        return max((*self.lists, *self.done), default=0)

    @property
    def open(self) -> tuple[int, ...]:
        """The epochs whose list has no proof yet."""
        return tuple(epoch for epoch in self.lists if epoch not in self.done)


def published(store: ObjectStore, volume_id: str) -> Published:
    """Return what collections of a volume published; needs no key.

    Raises:
        StoreError: the place failed.
    """
    found: dict[str, list[int]] = {"cond": [], "done": []}
    prefix = collections_prefix(volume_id)
    names = store.list_names(prefix)
    # A writer's point tells the epoch it saw; a collection deletes by the list it saw. Neither may
    # vanish with the power after that.
    store.settle(prefix)
    for name in names:
        try:
            _, epoch, kind = parse_collection_name(name)
        except FormatError:
            continue  # not of a collection; verify reports it
        found[kind].append(epoch)
    return Published(tuple(sorted(found["cond"])), tuple(sorted(found["done"])))


class CollectionLists:
    """Reads and writes what collections of one volume publish."""

    def __init__(self, store: ObjectStore, key: SourceKey, volume_id: str) -> None:
        self._store, self._key, self._volume_id = store, key, volume_id

    def published(self) -> Published:
        """Return what there is.

        Raises:
            StoreError: the place failed.
        """
        return published(self._store, self._volume_id)

    def condemned(self, epoch: int) -> Condemned:
        """Return a list.

        Raises:
            StoreMissingError: there is none. ChecksumError, RepositoryFormatError: it is damaged.
        """
        found = self._load(condemned_name(self._volume_id, epoch))
        assert isinstance(found, Condemned)  # its name says so, and was compared
        return found

    def done(self, epoch: int) -> Done:
        """Return a proof; raises as ``condemned``."""
        found = self._load(done_name(self._volume_id, epoch))
        assert isinstance(found, Done)
        return found

    def after(self, epoch: int) -> tuple[int, dict[int, Condemned]]:
        """Return the highest epoch, and the lists above ``epoch`` that are there and sound.

        Raises:
            StoreError: the place failed.
        """
        published = self.published()
        lists: dict[int, Condemned] = {}
        for one in published.lists:
            if one > epoch:
                try:
                    lists[one] = self.condemned(one)
                except (FormatError, StoreMissingError):
                    continue  # the rules know what a missing one means
        return published.seen, lists

    def put(self, record: Condemned | Done) -> int:
        """Publish a list or proof; durable on return. Return its size.

        Raises:
            ObjectExistsError: another collection published that epoch.
            StoreFullError, StoreError: it is not there, or its acknowledgement was lost.
        """
        return self._store.put(record.name, [pack_collection(record, self._key.hash_key)])

    def _load(self, name: str) -> Condemned | Done:
        data = self._store.get(name, size_max=COLLECTION_SIZE_MAX)
        return unpack_collection(data, name, self._key.repository_id, self._key.hash_key)
