"""Places that look around by themselves: one question instead of many one after the other. Pure.

A writer far from its repository waits for answers more than for anything else. A receiver knows all
that is asked at the beginning of a session, and sees by itself what a writer looks for right before
and right after its commit. What it shows then is what the same questions, asked one by one, would
have shown; where a place cannot do this, they are asked one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from blocksnapd.store.names import (
    REPOSITORY_NAME,
    collections_prefix,
    packs_prefix,
    points_prefix,
    records_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocksnapd.store.objects import Lock, ObjectStore


@dataclass(frozen=True, slots=True)
class Shown:
    """What a place shows of a volume at one moment.

    Attributes:
        repository: the bytes of repo.json; None: it is not there.
        names: those of points, collections and records, sorted. Points, collections, and packs,
            which are not listed, are durable.
    """

    repository: bytes | None
    names: tuple[str, ...]


@runtime_checkable
class Looks(Protocol):
    """A place that looks around by itself. Both may raise what an ObjectStore does."""

    def look(self, volume_id: str) -> Shown:
        """Return what there is of a volume."""

    def put_point(
        self, name: str, parts: Sequence[bytes | memoryview], *, epoch: int
    ) -> int | None:
        """Create a point if no collection above ``epoch`` is seen; durable on return.

        Return the highest epoch that is seen after that; None: it cannot tell, or the point is not
        alone in its place.

        Raises:
            CondemnedError: another epoch is seen; nothing was put.
            ObjectExistsError: the name, or the point's place, is taken.
        """


def glance(store: ObjectStore, volume_id: str) -> ObjectStore:
    """Return ``store`` as it is now for questions about a volume that begin a session.

    What it shows stays the same; whoever must see what came since asks ``store``.
    """
    return Glance(store, store.look(volume_id), volume_id) if isinstance(store, Looks) else store


class Glance:
    """An ObjectStore that answers from what was shown where it can."""

    def __init__(self, inner: ObjectStore, shown: Shown, volume_id: str) -> None:
        self._inner, self._shown = inner, shown
        settled = points_prefix(volume_id), collections_prefix(volume_id)
        self._listed = {*settled, records_prefix(volume_id)}
        self._settled = {*settled, packs_prefix(volume_id)}

    @property
    def url(self) -> str:
        """The place, for people."""
        return self._inner.url

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Create an object."""
        return self._inner.put(name, parts)

    def get(self, name: str, *, size_max: int) -> bytes:
        """Return a whole object."""
        data = self._shown.repository
        if name != REPOSITORY_NAME or data is None or len(data) > size_max:
            return self._inner.get(name, size_max=size_max)
        return data

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        """Return a part of an object."""
        return self._inner.get_range(name, offset, size)

    def size(self, name: str) -> int:
        """Return the bytes of an object."""
        return self._inner.size(name)

    def age(self, name: str) -> float:
        """Return for how many seconds an object has been there."""
        return self._inner.age(name)

    def exists(self, name: str) -> bool:
        """Return whether the object is there."""
        return self._inner.exists(name)

    def list_names(self, prefix: str) -> list[str]:
        """Return all names below ``prefix``."""
        if prefix not in self._listed:
            return self._inner.list_names(prefix)
        return [name for name in self._shown.names if name.startswith(prefix)]

    def children(self, prefix: str) -> list[str]:
        """Return the next parts of names below ``prefix``."""
        return self._inner.children(prefix)

    def delete(self, name: str) -> None:
        """Remove an object."""
        self._inner.delete(name)

    def settle(self, prefix: str) -> None:
        """Make durable what may be seen."""
        if prefix not in self._settled:
            self._inner.settle(prefix)

    def free_size(self) -> int | None:
        """Return how many bytes there is room for."""
        return self._inner.free_size()

    def lock(self, prefix: str) -> Lock:
        """Become the one writer below ``prefix``."""
        return self._inner.lock(prefix)
