"""The repository of a host: what a receiver makes sure of before anything gets its name. Edge.

Where they are is a ``Root``, ``roots.py``. Thread-safe; all of it blocks.
"""

from __future__ import annotations

import logging
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
    StoreMissingError,
    StoreRefusedError,
)
from blocksnapd.receive import caller as rules
from blocksnapd.receive.open_root import open_root
from blocksnapd.receive.roots import NOTHING
from blocksnapd.receive.usage import Usage
from blocksnapd.store.collection_lists import published
from blocksnapd.store.collection_rules import is_unchanged, rivals
from blocksnapd.store.floor import floor_s_of
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
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocksnapd.config_receive import ReceiveConfig
    from blocksnapd.receive.caller import Caller
    from blocksnapd.receive.roots import HostStore, Root, Upload
    from blocksnapd.receive.turns import Turn

log = logging.getLogger(__name__)

PIECE_SIZE = 1 << 20
FLOOR_AGE_S_MAX = 60.0


class HostPlace:
    """What one host keeps here."""

    def __init__(
        self,
        host: str,
        root: Root,
        config: Callable[[], ReceiveConfig],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.host, self._root, self._config, self._now = host, root, config, now
        self.usage = Usage(lambda: root.used(host), root.count_again_s)
        self._lock, self._points = threading.Lock(), threading.Lock()
        self._store: HostStore | None = None
        self._repository_id = ""
        self._said_floor: tuple[float | None] | None = None
        self._found_floor = 0.0, float("-inf")  # seconds, and when they were read

    def store(self) -> HostStore:
        """Return the objects of the host.

        Raises:
            StoreMissingError: it keeps none here yet.
        """
        with self._lock:
            if self._store is None:
                self._store = self._root.opened(self.host)
            return self._store

    def room(self) -> int | None:
        """Return how many bytes the host may still put; None: nobody knows of an end."""
        config = self._config()
        quota, free = config.host(self.host).quota, self._root.free_size()
        left = [] if free is None else [free - config.receive.reserve]
        left += [] if quota is None else [quota - self.usage.used()]
        return max(0, min(left)) if left else None

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
        store = self._made() if name == REPOSITORY_NAME else self.store()
        self._keep_floor()
        if store.exists(name):
            raise taken(name)
        self._root.check_room(size, self._config().receive.reserve)
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
        with self._points, self._turn(caller, name, head) as turn:  # two must not take one place
            if epoch is not None:
                self._check_epoch(name, epoch)
            if caller.role == "source":
                self._check_point(name, head)
            with turn.landing():
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
            StoreRefusedError: it is. StateError: nobody knows.
        """
        store = self.store()
        floor_s = max(self._config().host(self.host).floor_s or 0.0, self._others_floor_s(store))
        if name.startswith("v/") and store.exists(name) and store.age(name) < floor_s:
            raise StoreRefusedError(
                f"{name} arrived here less than {format_duration(floor_s)} ago",
                effect="Nothing was removed.",
                hint="That is the floor of this host in a receiver's configuration.",
            )
        store.delete(name)

    def _made(self) -> HostStore:
        # A host begins with its repo.json; nothing else makes a place for it here.
        return self._root.made(self.host, self._config().host(self.host).floor_s)

    def _keep_floor(self) -> None:
        # It may have begun at another receiver, or not been told when the configuration changed.
        config = self._config()
        with self._lock:
            if self._said_floor != (config.host(self.host).floor_s,):
                keep_floor(self._root, self.host, config)
                self._said_floor = (config.host(self.host).floor_s,)

    def _others_floor_s(self, store: HostStore) -> float:
        # Whoever deletes does so thousands of times.
        floor_s, read_at = self._found_floor
        if time.monotonic() - read_at > FLOOR_AGE_S_MAX:
            floor_s = floor_s_of(store)
            self._found_floor = floor_s, time.monotonic()
        return floor_s

    def _turn(self, caller: Caller, name: str, head: bytes) -> Turn:
        try:
            return self._root.turn(self.host, name)
        except StoreError:
            if caller.role == "source":
                self._check_point(name, head)  # whoever has it may be through
            raise

    def _check_epoch(self, name: str, epoch: int) -> None:
        assert self._store is not None  # it was begun there
        seen = published(self._store, parse_point_name(name).volume_id).seen
        if not is_unchanged(epoch, seen):
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
        self.root = open_root(config())
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
        return self._known.setdefault(
            caller.host, HostPlace(caller.host, self.root, self._config, self._now)
        )

    def all(self) -> list[HostPlace]:
        """Return the places that were asked for since the start."""
        return list(self._known.values())


def keep_floor(root: Root, host: str, config: ReceiveConfig) -> None:
    """Have a host's repository say the floor that ``config`` tells; raises StoreError."""
    if changed := root.set_floor(host, config.host(host).floor_s):
        log.warning("%s: %s", host, changed)


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
