"""The exports that are open: found by name, opened once for all who want them, closed when idle.

A *group* is the connections of one client: of one process on a Unix socket, of one address on
TCP. What a name like ``vg0/home@latest`` meant for its first connection holds for the others as
long as one of them lives, and with overlays a group shares one: what one connection writes the
others read. Edge. Event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from blocksnapd.errors import BusyError
from blocksnapd.export.disk import ImageDisk
from blocksnapd.export.overlay import Overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

    from blocksnapd.export.disk import Disk
    from blocksnapd.ports import PointImage

log = logging.getLogger(__name__)

IDLE_S: Final = 60.0
OPEN_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Export:
    """One image under its own name. ``open`` blocks: it is called in a thread."""

    name: str
    size: int
    block_size: int
    description: str
    open: Callable[[], PointImage]


class Resolver(Protocol):
    """Knows which exports there are."""

    async def resolve(self, name: str) -> Export:
        """Return the export that ``name`` means; the empty name is the default's.

        Raises:
            NotFoundError, UsageError: none, or several.
        """

    async def names(self) -> Sequence[tuple[str, str]]:
        """Return (name, description) of those that a client may be shown."""


@dataclass(slots=True, eq=False)
class _Shared:
    """A disk and how many use it. ``opening`` is done once it is open."""

    key: Hashable
    opening: asyncio.Task[_Opened]
    users: int = 0
    idle: asyncio.TimerHandle | None = None


class Lease(NamedTuple):
    """The right to use ``disk`` until it is given back."""

    disk: Disk
    shared: _Shared


class _Opened(NamedTuple):
    disk: Disk
    below: Lease | None = None  # what an overlay lies on


class Exports:
    """Opens and closes. ``overlays`` is where their files lie; None: exports are read-only."""

    def __init__(
        self, resolver: Resolver, *, overlays: str | None = None, idle_s: float = IDLE_S
    ) -> None:
        self._resolver = resolver
        self._overlays = overlays
        self._idle_s = idle_s
        self._open: dict[Hashable, _Shared] = {}
        self._meant: dict[tuple[Hashable, str], Export] = {}
        self._members: Counter[Hashable] = Counter()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_writable(self) -> bool:
        """Whether every group gets an overlay."""
        return self._overlays is not None

    @property
    def open_count(self) -> int:
        """Images and overlays that are open."""
        return len(self._open)

    def join(self, group: Hashable) -> None:
        """Note a connection of ``group``."""
        self._members[group] += 1

    def leave(self, group: Hashable) -> None:
        """Note its end."""
        self._members[group] -= 1
        if not self._members[group]:
            del self._members[group]
            for key in [key for key in self._meant if key[0] == group]:
                del self._meant[key]

    async def names(self) -> Sequence[tuple[str, str]]:
        """Return (name, description) of what can be chosen."""
        return await self._resolver.names()

    async def resolve(self, name: str, group: Hashable) -> Export:
        """Return what ``name`` means for ``group``; raises as ``Resolver.resolve``."""
        key = (group, name)
        if key not in self._meant:
            found = await self._resolver.resolve(name)
            if group not in self._members:
                return found
            self._meant.setdefault(key, found)
            _forget_first(self._meant, group)
        return self._meant[key]

    async def open(self, export: Export, group: Hashable) -> Lease:
        """Return a lease on the export's disk; with overlays, on the group's own.

        Raises:
            BlocksnapError: it cannot be opened. BusyError: too many are open.
        """
        if self._overlays is None:
            return await self._lease(export.name, lambda: self._open_image(export))
        key = (export.name, group)
        return await self._lease(key, lambda: self._open_overlay(export))

    def give_back(self, lease: Lease) -> None:
        """End a lease; the last one's disk closes after a while."""
        self._drop(lease.shared)

    async def stop(self) -> None:
        """Close everything; no connection is left."""
        while True:
            for shared in [shared for shared in self._open.values() if not shared.users]:
                self._close(shared)
            if not self._closing:
                return
            await asyncio.wait(self._closing)  # overlays first, then what they lay on

    # --- sharing -------------------------------------------------------------------------------

    async def _lease(
        self, key: Hashable, start: Callable[[], Coroutine[None, None, _Opened]]
    ) -> Lease:
        shared = self._open.get(key)
        if shared is None:
            self._make_place()
            shared = self._open[key] = _Shared(key, asyncio.create_task(start()))
        shared.users += 1
        if shared.idle is not None:
            shared.idle.cancel()
            shared.idle = None
        try:
            # Whoever waits may leave; the others still want it.
            opened = await asyncio.shield(shared.opening)
        except BaseException:
            if shared.opening.done():  # it failed: the next one who asks tries again
                self._open.pop(key, None)
            self._drop(shared)
            raise
        return Lease(opened.disk, shared)

    def _make_place(self) -> None:
        if len(self._open) < OPEN_MAX:
            return
        unused = next((shared for shared in self._open.values() if not shared.users), None)
        if unused is None:
            raise BusyError(f"{OPEN_MAX} exports are open", hint="Try again when one was closed.")
        self._close(unused)

    def _drop(self, shared: _Shared) -> None:
        shared.users -= 1
        if not shared.users and self._open.get(shared.key) is shared:
            loop = asyncio.get_running_loop()
            shared.idle = loop.call_later(self._idle_s, self._close, shared)

    def _close(self, shared: _Shared) -> None:
        del self._open[shared.key]
        if shared.idle is not None:
            shared.idle.cancel()
        task = asyncio.create_task(self._finish(shared))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _finish(self, shared: _Shared) -> None:
        try:
            opened = await shared.opening
            await asyncio.to_thread(opened.disk.close)
        except Exception as error:  # nobody waits for this: it must be told here
            log.warning("an export did not close in good order: %s", error)
        else:
            if opened.below is not None:
                self._drop(opened.below.shared)

    async def _open_image(self, export: Export) -> _Opened:
        return _Opened(await asyncio.to_thread(lambda: ImageDisk(export.open())))

    async def _open_overlay(self, export: Export) -> _Opened:
        assert self._overlays is not None
        below = await self._lease(export.name, lambda: self._open_image(export))
        try:
            overlay = await asyncio.to_thread(Overlay, below.disk, self._overlays)
        except BaseException:
            self._drop(below.shared)
            raise
        return _Opened(overlay, below)


def _forget_first(meant: dict[tuple[Hashable, str], Export], group: Hashable) -> None:
    """Keep what a client can make us remember bounded."""
    found = [key for key in meant if key[0] == group]
    for key in found[: max(0, len(found) - OPEN_MAX)]:
        del meant[key]
