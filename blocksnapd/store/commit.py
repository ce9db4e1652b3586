"""The commit of a point: put, with a look around before it and after it. Edge (threads).

A place that looks by itself does all three in one round trip; else they are three, in which what
does not depend on each other is asked at once. Why neither look can go: ``collection_rules.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import CondemnedError
from blocksnapd.store import collection_rules
from blocksnapd.store.looks import Looks
from blocksnapd.store.names import check_free, parse_point_name, points_prefix
from blocksnapd.store.together import together

if TYPE_CHECKING:
    from collections.abc import Collection

    from blocksnapd.store.epoch_watch import EpochWatch
    from blocksnapd.store.objects import ObjectStore


class Commit:
    """One point on its way; first ``put``, then ``look_after``.

    Args:
        store: the place.
        watch: of the session.
        name: the point's.
        packs: the names of all packs that it names.
    """

    def __init__(
        self, store: ObjectStore, watch: EpochWatch, name: str, packs: Collection[str]
    ) -> None:
        self._store, self._watch, self._name, self._packs = store, watch, name, packs
        self._is_looked_after = False

    def put(self, data: bytes) -> int:
        """Put the point, if it may be there; return its size. Durable on return.

        Raises:
            CondemnedError: it may not: give up and begin anew.
            ObjectExistsError: its place is taken. StoreError: the place failed.
        """
        if isinstance(self._store, Looks) and self._watch.is_in_time:
            try:
                seen = self._store.put_point(self._name, [data], epoch=self._watch.epoch)
            except CondemnedError:
                pass  # there are new lists: they tell whether this point is meant
            else:
                is_unchanged = collection_rules.is_unchanged(self._watch.epoch, seen)
                self._is_looked_after = is_unchanged and self._watch.is_in_time
                return len(data)
        together(self._check_place, lambda: self._watch.look_before(self._name, self._packs))
        return self._store.put(self._name, [data])

    def look_after(self) -> None:
        """Make sure that the point may be relied on.

        Raises:
            CondemnedError, ObjectExistsError: it may not; see ``EpochWatch``.
            StoreError: the place failed: the point stands, and the next cycle looks again.
        """
        if not self._is_looked_after:
            together(
                lambda: self._watch.look_for_rivals(self._name),
                lambda: self._watch.look_after(self._name, self._packs),
            )

    def _check_place(self) -> None:
        # The lock makes this certain; where locks lie (NFS), it still catches most forks.
        said = parse_point_name(self._name)
        for name in self._store.list_names(points_prefix(said.volume_id)):
            check_free(name, said.seq, said.point_id)
