"""What the repository asks of a place that keeps objects: the ObjectStore port. Pure.

A name, once created, never changes its content; there is no overwrite. Everything blocks.
Implementations pass the suite in ``tests/contract``. All may raise StoreError (the place
failed), StoreMissingError (the place is gone) and StoreFullError (``put`` only).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Lock(Protocol):
    """A held lock; the death of its holder releases it.

    ``is_everywhere``: it keeps writers on all hosts out, not only those on this one. Where it is
    not, holding it tells nothing of whether a session is going on.
    """

    @property
    def is_everywhere(self) -> bool:
        """See the class."""

    def release(self) -> None:
        """Let go; a second call does nothing."""


class ObjectStore(Protocol):
    """Create-only objects under names."""

    @property
    def url(self) -> str:
        """The place, for people."""

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Create an object of ``parts`` joined; durable on return. Return its size.

        Raises:
            ObjectExistsError: the name is taken; it was not touched.
            StoreFullError: no room; nothing is under the name.
        """

    def get(self, name: str, *, size_max: int) -> bytes:
        """Return a whole object.

        Raises:
            StoreMissingError: there is none.
            RepositoryFormatError: it is larger than ``size_max``.
        """

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of an object from ``offset``, or fewer where it ends.

        Raises:
            StoreMissingError: there is no such object.
        """

    def size(self, name: str) -> int:
        """Return the bytes of an object.

        Raises:
            StoreMissingError: there is none.
        """

    def age(self, name: str) -> float:
        """Return for how many seconds an object has been there, by the place's own clock.

        Below zero where that clock was set back.

        Raises:
            StoreMissingError: there is none.
        """

    def exists(self, name: str) -> bool:
        """Return whether the object is there; a place that cannot tell raises."""

    def list_names(self, prefix: str) -> list[str]:
        """Return all object names that start with ``prefix`` (ends with ``/``), sorted, whole."""

    def children(self, prefix: str) -> list[str]:
        """Return the sorted next parts of names under ``prefix``, which ends with ``/``."""

    def delete(self, name: str) -> None:
        """Remove an object durably; none there is success."""

    def settle(self, prefix: str) -> None:
        """Make durable every name that may be seen in the folder ``prefix``, and that folder.

        Not those in folders in it. It ends with a slash.

        A writer that died may have created an object and not seen it durable; whoever goes on
        from such an object calls this first.
        """

    def free_size(self) -> int | None:
        """Return how many bytes there is room for, None if unknown."""

    def lock(self, prefix: str) -> Lock:
        """Become the one writer of names that start with ``prefix``; clear what writers left.

        Raises:
            BusyError: there is one.
        """
