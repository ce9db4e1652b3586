"""A writer's eye on collections: what it must know before and after its commit. Edge (clock).

The rules, and why they lose nothing, are in ``collection_rules.py``. Everything here works with the
hash key alone and reads nothing but a few short lists.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from blocksnapd.errors import CondemnedError, ObjectExistsError
from blocksnapd.store.collection_lists import CollectionLists, published
from blocksnapd.store.collection_rules import (
    SESSION_S_MAX,
    Refusal,
    is_tainted,
    noted_epoch,
    refusal,
    rivals,
)
from blocksnapd.store.names import is_point_name, points_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from blocksnapd.store.keys import SourceKey
    from blocksnapd.store.objects import ObjectStore

_BEGIN_ANEW = (
    "The next cycle ships anew what is needed. If sessions stall for days, look at the disk and "
    "the host."
)
_WHY: dict[Refusal, str] = {
    "late": "its session went on for longer than {days:.0f} days",
    "shrunk": "lists of collections that were there are not seen any more",
    "unknown": "a list that a collection published since is not readable",
    "condemned": "a collection took what it wrote for the leftovers of a session that died",
}
_LISTS_LOST = (
    "If nobody removed objects under g/, try again: the listing was cut short. Otherwise bring "
    "them back from a copy, or let maintenance collect: its next list ends this."
)


def session_clock() -> float:
    """Return seconds that never jump and go on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class EpochWatch:
    """One session of a writer, from its beginning on."""

    def __init__(
        self,
        store: ObjectStore,
        key: SourceKey,
        volume_id: str,
        *,
        base_epoch: int = 0,
        shown: ObjectStore | None = None,
        clock: Callable[[], float] = session_clock,
        age_s_max: float = SESSION_S_MAX,
        since: tuple[int, float] | None = None,
    ) -> None:
        """Note the epoch; ``base_epoch`` is that of the point the session goes on from, if any.

        ``shown`` is the store as it was when the session began, for this alone. ``since`` has the
        epoch and the clock's time at which a session began that was cut and goes on now: to a
        collection it is merely slow.

        Raises:
            StoreError: the place failed.
        """
        self._store, self._key, self._volume_id = store, key, volume_id
        self._clock, self._age_s_max = clock, age_s_max
        self._lists = CollectionLists(store, key, volume_id)
        if since is not None:
            self.epoch, self.began = since
            return
        self.began = clock()
        self.epoch = noted_epoch(published(shown or store, volume_id).seen, base_epoch)

    @property
    def is_in_time(self) -> bool:
        """Whether the session may still commit; the looks tell of one that may not."""
        return self._clock() - self.began <= self._age_s_max

    def look_before(self, point_name: str, packs: Collection[str]) -> None:
        """Make sure that a point that names ``packs`` may be committed.

        Raises:
            CondemnedError: it may not: give up and begin anew. StoreError: the place failed.
        """
        why = self._refusal(packs)
        if why:
            raise self._refused(f"{point_name} was not committed", why, "Nothing was committed")

    def look_for_rivals(self, point_name: str) -> None:
        """Make sure that the point just committed is alone in its place.

        Raises:
            ObjectExistsError: there is another point in its place. It stands, and the next cycle
                sees to it. StoreError: as ``look_after``.
        """
        names = self._store.list_names(points_prefix(self._volume_id))
        others = rivals(point_name, filter(is_point_name, names))
        if others:
            raise ObjectExistsError(
                f"{point_name} was committed beside another point: {others[0]}",
                effect="It is not relied on; earlier points are untouched.",
                hint="Decide which daemon protects the volume; move one of the two objects away.",
            )

    def look_after(self, point_name: str, packs: Collection[str]) -> None:
        """Make sure that the point just committed may be relied on.

        Raises:
            CondemnedError: something it names may be gone. It stands, and the next cycle sees to
                it. StoreError: the place failed: the point stands, and the next cycle looks again.
        """
        why = self._refusal(packs)
        if why:
            raise self._refused(f"{point_name} is not relied on", why, "The point may be damaged")

    def _refusal(self, packs: Collection[str]) -> Refusal:
        seen, lists = self._lists.after(self.epoch)
        age_s = self._clock() - self.began
        return refusal(self.epoch, seen, lists, packs, age_s=age_s, age_s_max=self._age_s_max)

    def _refused(self, what: str, why: Refusal, effect: str) -> CondemnedError:
        reason = _WHY[why].format(days=self._age_s_max / 86400)
        return CondemnedError(
            f"{what}: {reason}",
            effect=f"{effect}; earlier points are untouched.",
            hint=_LISTS_LOST if why == "shrunk" else _BEGIN_ANEW,
        )


def is_base_tainted(
    store: ObjectStore, key: SourceKey, volume_id: str, base_name: str, epoch: int
) -> bool:
    """Return whether what the newest point names may have been deleted before it was committed.

    Then only a full point helps, which names nothing old. ``epoch`` is the point's.

    Raises:
        StoreError: the place failed.
    """
    seen, lists = CollectionLists(store, key, volume_id).after(epoch)
    return is_tainted(base_name, epoch, seen, lists)
