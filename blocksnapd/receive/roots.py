"""Where a receiver keeps its hosts: one directory or one folder of a bucket for each. Edge.

Each of them is an ordinary repository, which every tool can be pointed at by its ``url``. Places
(``places.py``) know no more of a root than what stands here.
"""

from __future__ import annotations

import os
from typing import Protocol, Self

from blocksnapd.errors import StoreError, StoreFullError, StoreMissingError
from blocksnapd.receive.turns import Turn
from blocksnapd.receive.usage import bytes_below
from blocksnapd.runtime import durable
from blocksnapd.store.files import LocalStore
from blocksnapd.store.floor import write_floor
from blocksnapd.store.objects import ObjectStore
from blocksnapd.units import format_size

NOTHING = "Nothing was committed; earlier points are untouched; the snapshot goes on tracking."
NOT_STARTED = "The receiver did not start; sources keep their snapshots meanwhile."


class Upload(Protocol):
    """An object on its way: bytes in, then its name. Thread-safe; all of it may block."""

    def __enter__(self) -> Self:
        """Hold it; whoever leaves without publishing leaves nothing behind."""

    def __exit__(self, *error: object) -> None:
        """End it."""

    def write(self, *parts: bytes | memoryview) -> None:
        """Add ``parts``; raises as ``ObjectStore.put``."""

    def publish(self) -> int:
        """Make it an object, durable on return; return its size. Raises as ``put``."""


class HostStore(ObjectStore, Protocol):
    """The objects of one host, which also come piece by piece."""

    def begin(self, name: str) -> Upload:
        """Return a new object of no bytes yet; raises as ``put``."""


class Root(Protocol):
    """All hosts of a receiver. Thread-safe; everything may block and raise StoreError.

    ``count_again_s``: so old may be what ``used`` said, as others put objects there, too.
    """

    count_again_s: float

    def check(self) -> tuple[str, ...]:
        """Make sure at the start that it can be used; return what people should know of it.

        Raises:
            BlocksnapError: it cannot.
        """

    def hosts(self) -> list[str]:
        """Return the hosts that keep something here, sorted."""

    def url(self, host: str) -> str:
        """Return by which URL every tool finds a host's repository."""

    def opened(self, host: str) -> HostStore:
        """Return the objects of a host.

        Raises:
            StoreMissingError: it keeps none here yet.
        """

    def made(self, host: str, floor_s: float | None) -> HostStore:
        """Return the objects of a host that begins now, once its floor is there."""

    def set_floor(self, host: str, floor_s: float | None) -> str:
        """Have a host's repository say its floor; return what changed as a sentence, or ""."""

    def turn(self, host: str, point: str) -> Turn:
        """Return the turn of a host's point of that name, which has its place to itself.

        Raises:
            StoreError: another receiver is putting another point there.
        """

    def check_room(self, size: int, reserve: int) -> None:
        """Make sure that ``size`` bytes can come, and ``reserve`` stay free.

        Raises:
            StoreFullError: they cannot.
        """

    def free_size(self) -> int | None:
        """Return how many bytes there is room for; None: nobody knows of an end."""

    def used(self, host: str) -> int:
        """Return how many bytes a host's objects take; see ``usage.py``."""


def no_repository(host: str) -> StoreMissingError:
    """Return the error for a host that keeps nothing here."""
    return StoreMissingError(
        f"host {host} has no repository on this receiver",
        effect="Nothing was read or written; the snapshot goes on tracking.",
        hint="Make it from the host with: blocksnapctl init URL",
    )


class DirectoryRoot:
    """One directory per host: ``<root>/<host>/`` is a repository in the local layout."""

    count_again_s = 3600.0  # nobody else puts anything there

    def __init__(self, root: str) -> None:
        self._root = root

    def check(self) -> tuple[str, ...]:
        """Make sure that the directory is there."""
        if not os.path.isdir(self._root):
            raise StoreMissingError(
                f"there is no directory {self._root} to keep repositories in",
                effect=NOT_STARTED,
                hint="Mount it, make it, or name another under [receive] root.",
            )
        return ()

    def hosts(self) -> list[str]:
        """Return the directories that are not hidden."""
        try:
            with os.scandir(self._root) as entries:
                return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        except OSError as error:
            raise StoreError(
                f"{self._root} cannot be read: {error.strerror}",
                effect="Nothing is known of what the receiver keeps.",
                hint="Mount it, or ask as its user: runuser -u blocksnap-receive -- …",
            ) from error

    def url(self, host: str) -> str:
        """Return the directory of a host."""
        return os.path.join(self._root, host)

    def opened(self, host: str) -> LocalStore:
        """Return the objects of a host."""
        if not os.path.isdir(self.url(host)):
            raise no_repository(host)
        return LocalStore(self.url(host))

    def made(self, host: str, floor_s: float | None) -> LocalStore:
        """Make the directory of a host where it is none."""
        if not os.path.isdir(self._root):
            raise StoreMissingError(
                f"the receiver's directory {self._root} is gone",
                effect=NOTHING, hint="Mount it again, on the receiver.",
            )  # fmt: skip
        if not os.path.isdir(self.url(host)):
            durable.make_dirs(self.url(host))
            self.set_floor(host, floor_s)
        return LocalStore(self.url(host))

    def set_floor(self, host: str, floor_s: float | None) -> str:
        """Write the file ``.floor`` of a host."""
        try:
            return write_floor(self.url(host), floor_s)
        except OSError as error:
            raise StoreError(
                f"the floor of {host} cannot be written: {error.strerror or error}",
                effect=NOTHING, hint="See the owner and the mode of its directory.",
            ) from error  # fmt: skip

    def turn(self, host: str, point: str) -> Turn:
        """Return a turn at once: nobody else puts points into this directory."""
        del host, point
        return Turn()

    def check_room(self, size: int, reserve: int) -> None:
        """Look at the disk."""
        free = self.free_size()
        if free - size < reserve:
            raise StoreFullError(
                f"no room: {format_size(free)} are free, and {format_size(reserve)} stay "
                "free for maintenance",
                effect=NOTHING,
                hint="Free room on the receiver or make its disk larger; the next cycle tries "
                "again.",
            )

    def free_size(self) -> int:
        """Return what is free on the disk, to this user."""
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise StoreError(
                f"the receiver cannot look at {self._root}: {error.strerror}",
                effect=NOTHING, hint="See the kernel's log on the receiver.",
            ) from error  # fmt: skip
        return found.f_bavail * found.f_frsize

    def used(self, host: str) -> int:
        """Walk through the directory of a host."""
        return bytes_below(self.url(host))
