"""One directory per host, and what a receiver makes sure of before anything gets its name. Edge.

    <root>/<host>/      a repository in the local layout: every local tool works on it

Thread-safe; all of it blocks.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from blake3 import blake3

from blocksnapd.errors import (
    ChecksumError,
    ClockOffsetError,
    CondemnedError,
    ObjectExistsError,
    RepositoryFormatError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreRefusedError,
)
from blocksnapd.receive import caller as rules
from blocksnapd.receive.usage import Usage
from blocksnapd.runtime import durable
from blocksnapd.store.collection_lists import published
from blocksnapd.store.collection_rules import rivals
from blocksnapd.store.files import LocalStore
from blocksnapd.store.floor import write_floor
from blocksnapd.store.identity import check_repository
from blocksnapd.store.looks import Shown
from blocksnapd.store.names import (
    REPOSITORY_NAME,
    collections_prefix,
    is_point_name,
    packs_prefix,
    parse_point_name,
    points_prefix,
    records_prefix,
)
from blocksnapd.store.point_format import from_us, unpack_header
from blocksnapd.store.repo_file import SIZE_MAX as REPOSITORY_SIZE_MAX
from blocksnapd.store.repo_file import unpack_repository
from blocksnapd.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.config_receive import ReceiveConfig
    from blocksnapd.receive.caller import Caller
    from blocksnapd.store.files import Upload

NOTHING = "Nothing was committed; earlier points are untouched; the snapshot goes on tracking."
PIECE_SIZE = 1 << 20


class HostPlace:
    """What one host keeps here."""

    def __init__(
        self, host: str, config: Callable[[], ReceiveConfig], now: Callable[[], float] = time.time
    ) -> None:
        self.host, self._config, self._now = host, config, now
        self.root = os.path.join(config().receive.root, host)
        self.usage = Usage(self.root)
        self._lock, self._points = threading.Lock(), threading.Lock()
        self._store: LocalStore | None = None
        self._repository_id = ""

    def store(self) -> LocalStore:
        """Return the objects of the host.

        Raises:
            StoreMissingError: it keeps none here yet.
        """
        with self._lock:
            if self._store is None:
                if not os.path.isdir(self.root):
                    raise StoreMissingError(
                        f"host {self.host} has no repository on this receiver",
                        effect="Nothing was read or written; the snapshot goes on tracking.",
                        hint="Make it from the host with: blocksnapctl init URL",
                    )
                self._store = LocalStore(self.root)
            return self._store

    def room(self) -> int:
        """Return how many bytes the host may still put."""
        config = self._config()
        quota = config.host(self.host).quota
        free = max(0, _free(config.receive.root) - config.receive.reserve)
        return free if quota is None else min(free, max(0, quota - self.usage.used()))

    def check_clock(self, offset_s: float | None) -> None:
        """Make sure that the host's clock, ``offset_s`` ahead of this one, can be trusted.

        Raises:
            ClockOffsetError: it cannot, or nobody knows.
        """
        limit = self._config().receive.clock_offset_s
        if offset_s is None or abs(offset_s) > limit:
            said = "is not told" if offset_s is None else _offset(offset_s)
            raise ClockOffsetError(
                f"the clock of host {self.host} {said}; at most {format_duration(limit)} are "
                "allowed here",
                effect=f"{NOTHING} A point with a wrong time would be kept or dropped wrongly.",
                hint="Set the clock, best by NTP on both sides; the next cycle tries again.",
            )

    @contextmanager
    def begun(self, name: str, size: int) -> Iterator[Upload]:
        """Give an object of ``size`` bytes that may be put; room for it is held.

        Raises:
            ObjectExistsError, QuotaError, StoreFullError, RepositoryFormatError, StoreMissingError
        """
        if size > rules.size_max(name):
            raise RepositoryFormatError(f"{name} cannot have {size} bytes", effect=NOTHING)
        self._make(name)
        store = self.store()
        if store.exists(name):
            raise taken(name)
        self._check_disk(size)
        quota = self._config().host(self.host).quota
        held = nullcontext() if quota is None else self.usage.reserved(size, quota, self.host)
        with held, store.begin(name) as upload:
            yield upload

    def publish(
        self, caller: Caller, name: str, upload: Upload, head: bytes, epoch: int | None = None
    ) -> int:
        """Give an object its name; ``head`` are its first bytes. Durable on return.

        A point's name is given only if ``epoch``, where it is told, is still the highest.

        Raises:
            ObjectExistsError: it is taken, or the point's place is. RepositoryFormatError: it is
                not what its name says. ClockOffsetError: the point is of the future.
            CondemnedError: there is another epoch.
        """
        if caller.role == "source" and name == REPOSITORY_NAME:
            unpack_repository(head)
        if not is_point_name(name):
            return upload.publish()
        with self._points:  # two at once must not take one place
            if epoch is not None:
                self._check_epoch(name, epoch)
            if caller.role == "source":
                self._check_point(name, head)
            return upload.publish()

    def seen_after(self, name: str) -> int | None:
        """Return the highest epoch, after a point was put; None: it is not alone in its place."""
        store, volume_id = self.store(), parse_point_name(name).volume_id
        if rivals(name, filter(is_point_name, store.list_names(points_prefix(volume_id)))):
            return None
        return published(store, volume_id).seen

    def look(self, caller: Caller, prefix: str) -> Shown:
        """Return what there is of the volume ``prefix``, v/VOLUME/; see ``looks.Looks``."""
        store, volume_id = self.store(), prefix.split("/")[1]
        settled = points_prefix(volume_id), collections_prefix(volume_id)
        names = [
            name
            for listed in (*settled, records_prefix(volume_id))
            for name in rules.shown(caller, store.list_names(listed))
        ]
        for folder in (*settled, packs_prefix(volume_id)):
            store.settle(folder)
        try:
            repository = store.get(REPOSITORY_NAME, size_max=REPOSITORY_SIZE_MAX)
        except StoreMissingError:
            repository = None
        return Shown(repository, tuple(sorted(names)))

    def is_same(self, name: str, size: int, digest: str) -> bool:
        """Return whether the object is there, of that size and BLAKE3, and make it durable."""
        store = self.store()
        if not store.exists(name) or store.size(name) != size:
            return False
        hasher = blake3()
        for at in range(0, size, PIECE_SIZE):
            hasher.update(store.get_range(name, at, PIECE_SIZE))
        if hasher.hexdigest() != digest:
            return False
        store.settle(name.rpartition("/")[0])
        return True

    def names(self, caller: Caller, prefix: str) -> list[str]:
        """Return the names under ``prefix`` that the caller may know of."""
        return rules.shown(caller, self.store().list_names(prefix))

    def opened(self, caller: Caller, name: str, first: int) -> tuple[int, bytes]:
        """Return how many bytes an object has from ``first`` on, and the first piece of them.

        Raises:
            StoreMissingError: there is no such object. StoreRefusedError: it is history, and the
                caller a source.
        """
        self._check_read(caller, "get", name)
        size = max(0, self.store().size(name) - first)
        return size, self.piece(name, first, min(size, PIECE_SIZE))

    def piece(self, name: str, offset: int, size: int) -> bytes:
        """Return a part of an object.

        Raises:
            StoreMissingError: it is gone, or ends before.
        """
        data = self.store().get_range(name, offset, size)
        if len(data) != size:
            raise StoreMissingError(f"{name} became shorter while it was read")
        return data

    def facts(self, caller: Caller, name: str) -> dict[str, float] | None:
        """Return size and age of an object, None where there is none; raises as ``opened``."""
        self._check_read(caller, "facts", name)
        store = self.store()
        if not store.exists(name):
            return None
        return {"size": store.size(name), "age": store.age(name)}

    def _check_read(self, caller: Caller, verb: rules.Verb, name: str) -> None:
        if caller.role == "source" and is_point_name(name):
            there = self.store().list_names(points_prefix(parse_point_name(name).volume_id))
            rules.check_point_read(caller, verb, name, there)

    def delete(self, name: str) -> None:
        """Remove an object, but no data younger than the floor.

        Raises:
            StoreRefusedError: it is.
        """
        store, floor_s = self.store(), self._config().host(self.host).floor_s or 0.0
        if name.startswith("v/") and store.exists(name) and store.age(name) < floor_s:
            raise StoreRefusedError(
                f"{name} arrived here less than {format_duration(floor_s)} ago",
                effect="Nothing was removed.",
                hint="That is the floor of this host in the receiver's configuration.",
            )
        store.delete(name)

    def _make(self, name: str) -> None:
        # A host begins with its repo.json; nothing else makes a directory here.
        root = self._config().receive.root
        if not os.path.isdir(root):
            raise StoreMissingError(
                f"the receiver's directory {root} is gone",
                effect=NOTHING, hint="Mount it again, on the receiver.",
            )  # fmt: skip
        if name == REPOSITORY_NAME and not os.path.isdir(self.root):
            durable.make_dirs(self.root)
            write_floor(self.root, self._config().host(self.host).floor_s)

    def _check_disk(self, size: int) -> None:
        receive = self._config().receive
        free = _free(receive.root)
        if free - size < receive.reserve:
            raise StoreFullError(
                f"no room: {format_size(free)} are free, and {format_size(receive.reserve)} stay "
                "free for maintenance",
                effect=NOTHING,
                hint="Free room on the receiver or make its disk larger; the next cycle tries "
                "again.",
            )

    def _check_epoch(self, name: str, epoch: int) -> None:
        assert self._store is not None  # it was begun there
        seen = published(self._store, parse_point_name(name).volume_id).seen
        if seen != epoch:
            raise CondemnedError(
                f"collections are at epoch {seen}, not at {epoch}",
                effect=NOTHING, hint="The host looks at what they published by itself.",
            )  # fmt: skip

    def _check_point(self, name: str, head: bytes) -> None:
        assert self._store is not None  # it was begun there
        said = parse_point_name(name)
        if not self._repository_id:
            self._repository_id = check_repository(self._store, None)
        header = unpack_header(head, name, self._repository_id)[0]
        ahead_s = from_us(header.time_us).timestamp() - self._now()
        if ahead_s > self._config().receive.clock_offset_s:
            raise ClockOffsetError(
                f"point {said.point_id} is of {from_us(header.time_us):%Y-%m-%d %H:%M:%S} UTC, "
                f"{format_duration(ahead_s)} after the receiver's clock",
                effect=NOTHING,
                hint="Set the clock of the host, best by NTP on both sides.",
            )
        there = [n for n in self._store.list_names(points_prefix(said.volume_id))
                 if is_point_name(n)]  # fmt: skip
        newest = parse_point_name(there[-1]).seq if there else 0
        if said.seq != newest + 1:
            raise ObjectExistsError(
                f"the next point of volume {said.volume_id} has place {newest + 1}, not {said.seq}",
                effect=f"{said.point_id} was not committed; nothing was changed.",
                hint="Look at the newest point and go on from it.",
            )


class Places:
    """The hosts of one receiver; ``config`` returns what it is told now."""

    def __init__(
        self, config: Callable[[], ReceiveConfig], now: Callable[[], float] = time.time
    ) -> None:
        self._config, self._now = config, now
        self._known: dict[str, HostPlace] = {}

    def of(self, caller: Caller) -> HostPlace:
        """Return the place of the caller's host.

        Raises:
            StoreRefusedError: nobody, or nobody in that role, speaks for it any more.
        """
        said = self._config().host(caller.host)
        if said.is_blocked:
            raise StoreRefusedError(
                f"host {caller.host} is blocked on this receiver",
                effect=NOTHING, hint="Its operator did that in the receiver's configuration.",
            )  # fmt: skip
        if caller.role == "maintainer" and not said.may_maintain:
            raise StoreRefusedError(
                f"host {caller.host} is not maintained from elsewhere",
                effect="Nothing was read or written.",
                hint="Maintain it on the receiver, or allow remote_maintenance there.",
            )
        return self._known.setdefault(caller.host, HostPlace(caller.host, self._config, self._now))

    def all(self) -> list[HostPlace]:
        """Return the places that were asked for since the start."""
        return list(self._known.values())


def taken(name: str) -> ObjectExistsError:
    """Return the error for a name that exists."""
    return ObjectExistsError(
        f"{name} exists",
        effect="It was not touched: names are written once.",
        hint="Look at the newest point; another run may have committed it.",
    )


def damaged(name: str) -> ChecksumError:
    """Return the error for a body that is not what its sender hashed."""
    return ChecksumError(f"{name} was damaged on its way", effect=NOTHING, hint="Try again.")


def _offset(offset_s: float) -> str:
    return f"is {format_duration(abs(offset_s))} {'ahead' if offset_s > 0 else 'behind'}"


def _free(root: str) -> int:
    try:
        found = os.statvfs(root)
    except OSError as error:
        raise StoreError(
            f"the receiver cannot look at {root}: {error.strerror}",
            effect=NOTHING, hint="See the kernel's log on the receiver.",
        ) from error  # fmt: skip
    return found.f_bavail * found.f_frsize
