"""One cycle of one volume, from top to bottom: the only place where the verbs meet.

    observe → decide → take | ship | remove | repair → observe → … → wait
                        └ hooks → snapshot → hooks

Killed anywhere, the next :meth:`Cycle.run` looks at the host and at the repository, and goes on.
What ``ship`` does is told in ``shipping.py``.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from blocksnapd.cycle.journal import Pending
from blocksnapd.cycle.rotation import (
    OVERFLOW,
    SPOILED,
    Asked,
    Remove,
    Repair,
    Ship,
    Take,
    Wait,
    decide,
)
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    CancelledRunError,
    CowReserveError,
    HookError,
    HookSkipError,
    HostError,
    TrackingLostError,
    VolumeError,
)
from blocksnapd.shipping import Shipping, timed

if TYPE_CHECKING:
    from blocksnapd.cycle.rotation import Command
    from blocksnapd.model import HostView, PointHead, RestorePoint, Taken
    from blocksnapd.shipping import Reporter, Volume

# A cycle settles in about six commands; more means that the host does not do what it is told.
COMMANDS_MAX = 20


class Hooks(Protocol):
    """What an operator wants done around a snapshot."""

    async def before(self, point_id: str) -> None:
        """Prepare for the snapshot of ``point_id``.

        Raises:
            HookError, HookSkipError: it shall not be taken.
        """

    async def after(self, point_id: str, taken: Taken | None) -> str:
        """Undo that, also when there is no snapshot; return what the point's consistency is now.

        Raises:
            HookError, HookSkipError: no point shall be made of it; never without a snapshot.
        """


class NoHooks:
    """``Hooks`` of whoever has none."""

    async def before(self, point_id: str) -> None:
        """Do nothing."""

    async def after(self, _point_id: str, _taken: Taken | None) -> str:
        """Say nothing of consistency."""
        return ""


class Cycle:
    """Runs cycles of one volume, one at a time."""

    def __init__(self, volume: Volume, reporter: Reporter, hooks: Hooks | None = None) -> None:
        self._volume = volume
        self._reporter = reporter
        self._hooks = hooks or NoHooks()
        self._stop = threading.Event()
        self._keep_pending = False
        self._taken_id = ""
        self._head: tuple[PointHead | None] | None = None
        self.committed: list[RestorePoint] = []

    def cancel(self, *, keep_pending: bool) -> None:
        """End a run at the next batch; ``keep_pending`` leaves its snapshot, to go on later."""
        self._keep_pending = keep_pending
        self._stop.set()

    async def run(self, asked: Asked, tags: tuple[str, ...] = ()) -> None:
        """Do what is to be done; ``committed`` lists the new points, also when it fails.

        Raises:
            BlocksnapError: the cycle failed; tracking goes on from the last committed point.
        """
        self._head = None
        for _ in range(COMMANDS_MAX):
            view, head, command = await self._next(asked)
            if isinstance(command, Wait):
                return
            if self._stop.is_set() and isinstance(command, Take | Ship):
                if isinstance(command, Ship):
                    await self._drop(command.point_id)
                if self.committed:
                    return
                raise CancelledRunError("the run was cancelled")
            try:
                await self._perform(command, view, head, tags)
            except TrackingLostError as error:
                if not _is_tracked(command):
                    raise  # there is nothing else to try
                self._reporter.event("tracking-lost", error.sentences())
                asked = replace(asked, compare=OVERFLOW)
            except CowReserveError as error:
                await self._drop_tracking(view, head, error)
                asked = replace(asked, compare="cow-reserve")
                continue  # the cycle is still due, and there is room now
            except (HostError, BusyError) as error:
                if not self.committed or not isinstance(command, Remove):
                    raise
                # The point stands. The next cycle removes the old snapshot before all else.
                self._reporter.event("remove-failed", error.sentences())
                return
            if isinstance(command, Take):
                asked = replace(asked, due=False)
            elif isinstance(command, Remove) and command.why == SPOILED:
                raise self._spoiled()
            elif isinstance(command, Remove) and command.why == OVERFLOW:
                self._reporter.event("tracking-lost", self._overflowed())
                asked = replace(asked, compare=OVERFLOW)
        raise HostError(
            f"{self._volume.name}: {COMMANDS_MAX} commands did not bring the host to rest; "
            f"the last was {command}",
            effect="No point was harmed; changes since the last one may be untracked.",
            hint="Look at the last events, then run: blocksnapctl doctor --fix",
        )

    async def _drop_tracking(
        self, view: HostView, head: PointHead | None, error: CowReserveError
    ) -> None:
        """Remove the base for the room it takes: a full compare later harms nobody's data."""
        base = next((s for s in view.snapshots if head and s.point_id == head.point_id), None)
        if head is None or base is None or base.used < error.shortage:
            raise error  # it would not help
        await self._volume.source.remove(head.point_id)
        self._reporter.event(
            "tracking-dropped",
            f"{self._volume.name}: {error.message} Its tracking was given up to free room; the "
            "volume is compared as a whole now, and only what differs is shipped.",
        )

    def _spoiled(self) -> TrackingLostError:
        return TrackingLostError(
            f"{self._volume.name}: the new snapshot became invalid before it was shipped: its COW "
            "device was full or failed.",
            effect="No point was made; the volume and the earlier points are not harmed.",
            hint="Give the COW space more room, or a faster target; it is tried again.",
        )

    def _overflowed(self) -> str:
        return (
            f"{self._volume.name}: the snapshot that tracked its changes became invalid: its COW "
            "device was full or failed. The volume is not harmed; it is compared as a whole now, "
            "and only what differs is shipped."
        )

    async def _next(self, asked: Asked) -> tuple[HostView, PointHead | None, Command]:
        volume = self._volume
        view = await volume.source.observe(again=self._head is not None)
        if view.volume_id != volume.volume_id:
            raise VolumeError(
                f"{volume.name} is another volume than before: one of this name was made anew.",
                effect="It is not protected until it is opened anew, which follows by itself; "
                "the old one's points are kept.",
            )
        if self._head is None:
            # Once a run: what changes it then is this run, and a session looks at its base anew.
            self._head = (await asyncio.to_thread(volume.store.newest, volume.volume_id),)
        (head,) = self._head
        pending = volume.journal.record.pending
        command = decide(
            view,
            head,
            pending.point_id if pending else "",
            tracks=volume.source.tracks,
            asked=asked,
        )
        return view, head, command

    async def _perform(
        self, command: Command, view: HostView, head: PointHead | None, tags: tuple[str, ...]
    ) -> None:
        source = self._volume.source
        if isinstance(command, Repair):
            for done in await source.repair():
                self._reporter.event("repaired", done)
        elif isinstance(command, Remove):
            with timed(self._reporter, "remove"):
                await source.remove(command.point_id)
            self._reporter.step("removed")
        elif isinstance(command, Take):
            await self._take(tags)
        elif isinstance(command, Ship):
            point = await self._ship_or_drop(command, view, head)
            self.committed.append(point)
            self._head = (point.head,)

    async def _take(self, tags: tuple[str, ...]) -> None:
        cut, taken = self._volume.journal.record.cut, None
        point_id = self._taken_id = cut or f"p{secrets.token_hex(8)}"
        try:
            await self._hooks.before(point_id)
            taken = await self._snapshot(point_id, tags)
        finally:
            consistency = await self._release(point_id, taken)
        if consistency:
            pending = self._volume.journal.record.pending
            assert pending is not None
            pending = msgspec.structs.replace(pending, consistency=consistency)
            await asyncio.to_thread(self._volume.journal.begin, pending)

    async def _snapshot(self, point_id: str, tags: tuple[str, ...]) -> Taken:
        volume = self._volume
        now = datetime.fromtimestamp(volume.clock.now(), UTC)
        pending = Pending(point_id, now, tags)
        await asyncio.to_thread(volume.journal.begin, pending)
        self._reporter.step("begun")
        with timed(self._reporter, "snapshot"):
            taken = await volume.source.take(point_id)
        self._reporter.step("taken")
        self._reporter.phase("freeze", taken.suspend_s)
        pending = Pending(point_id, taken.time, tags, taken.suspend_s)
        await asyncio.to_thread(volume.journal.begin, pending)
        self._reporter.step("noted")
        return taken

    async def _release(self, point_id: str, taken: Taken | None) -> str:
        try:
            return await self._hooks.after(point_id, taken)
        except (HookError, HookSkipError):
            await self._drop(point_id)
            raise

    async def _ship_or_drop(
        self, command: Ship, view: HostView, head: PointHead | None
    ) -> RestorePoint:
        shipping = Shipping(self._volume, self._reporter, self._stop, command, view, head)
        try:
            return await asyncio.to_thread(self._ship, shipping)
        except Exception as error:
            if isinstance(error, TrackingLostError) and _is_tracked(command):
                raise  # the new snapshot may still be good for a compare
            if not (shipping.is_commit_begun and await self._may_stand(command.point_id)):
                await self._drop(command.point_id, cut=self._cut(shipping, command))
            raise

    def _cut(self, shipping: Shipping, command: Ship) -> str:
        # Whose id the next point may have. Never that of one whose commit began, now or before a
        # restart: what is still on its way then would be taken for the next one.
        is_sure = not shipping.is_commit_begun and command.point_id == self._taken_id
        return command.point_id if is_sure else ""

    async def _may_stand(self, point_id: str) -> bool:
        """Whether the repository has the point although its commit failed, or does not answer.

        Its snapshot is the base of the next point then: it must not be dropped.
        """
        volume = self._volume
        try:
            head = await asyncio.to_thread(volume.store.newest, volume.volume_id)
        except BlocksnapError:
            return True
        return head is not None and head.point_id == point_id

    async def _drop(self, point_id: str, *, cut: str = "") -> None:
        # The base goes on tracking from the last committed point; a second snapshot that
        # nobody ships would only cost the host. A daemon that stops keeps it: it goes on.
        if self._stop.is_set() and self._keep_pending:
            return
        try:
            await self._volume.source.remove(point_id)
            await asyncio.to_thread(self._volume.journal.end, cut=cut)
        except (BlocksnapError, OSError) as error:  # the first error is the one to raise
            self._reporter.event("remove-failed", str(error))

    def _ship(self, shipping: Shipping) -> RestorePoint:
        try:
            return shipping.run()
        except OSError as error:
            raise HostError(
                f"{self._volume.name}: the daemon's state directory failed: {error}",
                effect="The point was not committed; earlier points are untouched.",
                hint="Give the state directory room, or repair its disk; the next cycle retries.",
            ) from error


def _is_tracked(command: Command) -> bool:
    return isinstance(command, Ship) and command.method == "tracked"
