"""The one or two snapshots of a volume that several targets share. Edge.

Each target has a cycle of its own, with its own rhythm, and sees the volume through a
:class:`~blocksnapd.cycle.lane_source.LaneSource`. Here is what they have in common: which snapshots
there are, what is known of each target's points (``claims.py``), and the room that a new one needs:

    two are there, nobody reads the older one     fold it
    somebody reads the older one                  hang the newer one's claims at it; its reader, if
                                                  it has one, goes on from the next snapshot
    it tracked more than ``HELD_SHARE`` of the    its reader loses it all the same, or the others
    volume, or that reader had its turn           would read more and more

What stands in a snapshot's stead is on the disk before it is removed. Whoever changes something
holds ``gate``; nothing done under it waits for a target. Reads are counted (``use``): before a
snapshot goes, those under way end and later ones are refused, so that a reader that is stuck at
its target holds no device open.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from blocksnapd.cycle import claims
from blocksnapd.cycle.claim_files import ClaimFiles
from blocksnapd.cycle.claims import Claim, Held, Record
from blocksnapd.cycle.lane import Lane
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    StateError,
    SupersededError,
    TrackingLostError,
)
from blocksnapd.model import Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from blocksnapd.cycle.lane import Physical
    from blocksnapd.model import Extents, HostView, SeenSnapshot
    from blocksnapd.ports import BlockReader, Clock

SNAPSHOTS_MAX: Final = 2
HELD_SHARE: Final = 16  # a part of the volume: what others read again for one slow reader
SHARED_SHARE: Final = 0.5  # of the interval: so old a snapshot may be that another target takes up
READ_S_MAX: Final = 60.0  # one read of a disk


class SharedSnapshots:
    """Of one volume and several targets; methods that are not async block or are plain looks.

    Args:
        directory: of the volume's state.
        targets: their names.
        every_s: how often each makes a point.
        clock: what time it is.
        tell: takes an event: its kind and a message.
    """

    def __init__(
        self, directory: str, targets: tuple[str, ...], *, every_s: float, clock: Clock,
        tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.gate = asyncio.Lock()
        self.lanes: Mapping[str, Lane] = {target: Lane() for target in targets}
        self.files = ClaimFiles(directory)
        self._targets, self._every_s = targets, every_s
        self._clock, self._tell = clock, tell
        self._is_known = True
        self._host: Physical | None = None
        self._guard = threading.Condition()
        self._uses: Counter[str] = Counter()
        self._gone: set[str] = set()

    # Opening ------------------------------------------------------------------------------------

    async def open(self, host: Physical) -> list[str]:
        """Take ``host`` as the way to the snapshots, repair what is half done; say what was done.

        The claims of an earlier life hold. A snapshot that nothing is known of is taken up if it is
        the only one: it may be that of a target's newest point, from when there was one target. Of
        two nobody knows which is the older one, so they are removed, and the volume is compared;
        so it is where the record was damaged.

        Raises:
            BlocksnapError: the volume is missing, or could not be repaired.
        """
        async with self.gate:
            done = await host.repair()
            view = await host.observe()
            if self._host is None:
                await asyncio.to_thread(self._load)
            self._host = host
            await self._keep(self._adopted(view))
            await asyncio.to_thread(self.files.remove_unused)
            await self._tidy(view)
        return done

    def _adopted(self, view: HostView) -> Record:
        there = {s.point_id for s in view.snapshots if s.state != "half"}
        record = claims.only(self._record, there, self._targets)
        if record.volume_id != view.volume_id:
            record = Record(view.volume_id)
        if len(there) != 1 or record.held or not self._is_known:
            return record
        (found,) = there
        for target in self._targets:  # it is true of all, and of use to the one whose point it is
            record = claims.with_claim(record, target, Claim(found, found))
        return claims.with_held(record, Held(found, self._now(), is_fit=False))

    def _load(self) -> None:
        try:
            self.files.load()
        except StateError as error:
            self._is_known = False
            self._tell("journal-lost", error.sentences())

    async def _keep(self, record: Record) -> None:
        if record != self._record:
            await asyncio.to_thread(self.files.keep, record)

    @property
    def _record(self) -> Record:
        return self.files.record

    # What a target's source asks ----------------------------------------------------------------

    @property
    def host(self) -> Physical:
        """The way to the snapshots; the volume has been opened."""
        assert self._host is not None
        return self._host

    def claim(self, target: str, point_id: str) -> Claim | None:
        """Return what is known of a target's point."""
        return self._record.find(target, point_id)

    def claims_of(self, target: str) -> tuple[Claim, ...]:
        """Return what is known of a target's points."""
        return self._record.lanes.get(target, ())

    @contextlib.contextmanager
    def use(self, snapshot_id: str) -> Iterator[None]:
        """Read from a snapshot in the body, which must wait for nothing but a disk.

        Raises:
            SupersededError: it is gone, or about to go.
        """
        with self._guard:
            if snapshot_id in self._gone:
                raise superseded(snapshot_id)
            self._uses[snapshot_id] += 1
        try:
            yield
        finally:
            with self._guard:
                self._uses[snapshot_id] -= 1
                self._guard.notify_all()

    def close(self, reader: BlockReader) -> None:
        """Close a snapshot's reader, which may be taken from its owner right now."""
        with self._guard:
            reader.close()

    async def to_share(self, target: str, newer_than: float) -> Held | None:
        """Return the snapshot that a new point of ``target`` may be of; None: take one.

        The gate is held. ``newer_than``, in seconds since the epoch, is when it was asked for.
        """
        view = await self.host.observe()
        await self._tidy(view)
        newest = self._record.held[-1] if self._record.held else None
        if newest is None or not newest.is_fit or _state(view, newest.snapshot_id) != "good":
            return None
        taken, age_s = newest.time.timestamp(), (self._now() - newest.time).total_seconds()
        if taken < newer_than or not 0 <= age_s < SHARED_SHARE * self._every_s:
            return None
        known = self._record.lanes.get(target, ())
        is_its_own = any(c.is_exact and c.at == newest.snapshot_id for c in known)
        return None if is_its_own else newest

    async def share(self, target: str, point_id: str, held: Held) -> Taken:
        """Make ``point_id`` of ``target`` a point of a snapshot that is there; the gate is held."""
        record = claims.with_claim(self._record, target, Claim(point_id, held.snapshot_id))
        await self._keep(record)
        self._begin(target, point_id, held.snapshot_id)
        return Taken(point_id, held.time, 0.0, 0.0)

    async def take(self, target: str, point_id: str) -> Taken:
        """Take a snapshot for ``point_id`` of ``target``; the gate is held.

        Raises:
            SpaceError, LvmError, RefusedError, BusyError: none was taken.
        """
        await self._make_room()
        snapshot_id, before = self._new_id(point_id), self._record
        record = claims.with_held(before, Held(snapshot_id, self._now()))
        await self._keep(claims.with_claim(record, target, Claim(point_id, snapshot_id)))
        try:
            taken = await self.host.take(snapshot_id)
        except BlocksnapError:  # which left nothing behind
            await self._keep(before)
            raise
        await self._keep(claims.with_held(self._record, Held(snapshot_id, taken.time)))
        self._begin(target, point_id, snapshot_id)
        return replace(taken, point_id=point_id)

    async def note(self, target: str, point_id: str, consistency: str, *, is_fit: bool) -> None:
        """Note what hooks made of the snapshot that was taken for a point; the gate is held."""
        claim = self._record.find(target, point_id)
        held = self._record.snapshot(claim.at) if claim is not None else None
        if held is not None:
            held = msgspec.structs.replace(held, consistency=consistency, is_fit=is_fit)
            await self._keep(claims.with_held(self._record, held))

    async def forget(self, target: str, point_id: str) -> None:
        """Forget a target's point, and remove the snapshots that nobody needs any more."""
        async with self.gate:
            if self.lanes[target].point == point_id:
                self._begin(target, "", "")
            await self._keep(claims.without_claim(self._record, target, point_id))
            await self._tidy(await self.host.observe())

    def begin_reading(self, target: str, point_id: str, snapshot_id: str) -> None:
        """Note that a target's cycle reads a snapshot, and needs the one before no more."""
        self._begin(target, point_id, snapshot_id)
        self.lanes[target].is_preparing = False

    def end_reading(self, target: str, *, is_whole: bool) -> None:
        """Note that it read all of it, or gave up."""
        lane = self.lanes[target]
        lane.reads, lane.is_preparing = "", False
        if is_whole:
            lane.lost, lane.is_regular = 0, True

    # Room for a new snapshot --------------------------------------------------------------------

    async def _make_room(self) -> None:
        """Leave at most one snapshot on the host.

        Raises:
            BusyError, LvmError, HostError: one cannot be removed.
        """
        view = await self.host.observe()
        await self._tidy(view)
        if len(self._record.held) < SNAPSHOTS_MAX:
            return
        old, new = (h.snapshot_id for h in self._record.held)
        if await self._keeps_older(view, old, new):
            await self._hang(old, new)
        else:
            await self._fold(old, new)

    async def _keeps_older(self, view: HostView, old: str, new: str) -> bool:
        older, newer = self._readers(old), self._readers(new)
        if not older or _state(view, old) != "good":
            return False
        if newer and max(lane.lost for lane in newer) > max(lane.lost for lane in older):
            return False  # whoever lost one more often goes on this time
        with contextlib.suppress(TrackingLostError):
            tracked = (await asyncio.to_thread(self.host.changes, old)).extents.size
            return tracked <= view.size // HELD_SHARE
        return False

    async def _tidy(self, view: HostView) -> None:
        """Remove what nobody needs; fold the older snapshot unless somebody will be at it."""
        there = {s.point_id for s in view.snapshots if s.state != "half"}
        record = claims.only(self._record, there, self._targets)
        await self._keep(record)
        for snapshot_id in sorted(there):
            if not record.claims(snapshot_id):
                await self._remove(snapshot_id)
        if len(self._record.held) == SNAPSHOTS_MAX:
            old, new = (h.snapshot_id for h in self._record.held)
            if not self._readers(old) and not self._wanted(old):
                await self._fold(old, new)

    def _readers(self, snapshot_id: str) -> list[Lane]:
        return [lane for lane in self.lanes.values() if lane.reads == snapshot_id]

    def _wanted(self, snapshot_id: str) -> bool:
        """Whether somebody lists what it tracked, or will prove a point by what it saved."""
        return any(
            lane.is_preparing or (lane.is_regular and claim.is_exact)
            for target, lane in self.lanes.items()
            for claim in self.claims_of(target)
            if claim.at == snapshot_id
        )

    async def _fold(self, old: str, new: str) -> None:
        """Put every claim at the older snapshot to the newer one, and remove the older."""
        for target, lane in self.lanes.items():
            lane.is_regular &= all(c.at != old for c in self.claims_of(target))
        tracked = await asyncio.to_thread(self._tracked, old)
        made: dict[str, str] = {}

        def folded(claim: Claim) -> Claim | None:
            if claim.at != old:
                return claim
            if tracked is None or (name := self.files.longer(claim, tracked, made)) is None:
                return None
            return Claim(claim.point_id, new, is_exact=False, owed=name)

        await self._keep(await asyncio.to_thread(claims.changed, self._record, folded))
        await asyncio.to_thread(self.files.remove_unused)
        await self._end(old)

    def _tracked(self, snapshot_id: str) -> Extents | None:
        """Return what a snapshot tracked; None if it is not whole, which is told."""
        try:
            extents = self.host.changes(snapshot_id).extents
            self.host.check_valid((snapshot_id,))
        except TrackingLostError as error:
            self._tell("tracking-lost", error.sentences())
            return None
        return extents

    async def _hang(self, old: str, new: str) -> None:
        """Put every claim at the newer snapshot to the older one, and remove the newer."""
        is_whole = True
        try:
            await asyncio.to_thread(self.host.check_valid, (new,))
        except TrackingLostError as error:
            self._tell("tracking-lost", error.sentences())
            is_whole = False

        def hung(claim: Claim) -> Claim | None:
            if claim.at != new:
                return claim
            changed = msgspec.structs.replace(claim, at=old, is_exact=False)
            return changed if is_whole else None

        await self._keep(claims.changed(self._record, hung))
        await self._end(new)

    async def _end(self, snapshot_id: str) -> None:
        """Take a snapshot that no claim needs from whoever reads it, and remove it."""
        for lane in self._readers(snapshot_id):
            lane.lost += 1
        await self._remove(snapshot_id)

    async def _remove(self, snapshot_id: str) -> None:
        await asyncio.to_thread(self._end_uses, snapshot_id)
        await self.host.remove(snapshot_id)
        held = tuple(h for h in self._record.held if h.snapshot_id != snapshot_id)
        await self._keep(msgspec.structs.replace(self._record, held=held))

    def _end_uses(self, snapshot_id: str) -> None:
        with self._guard:
            self._gone.add(snapshot_id)
            if not self._guard.wait_for(lambda: not self._uses[snapshot_id], READ_S_MAX):
                raise BusyError(
                    f"the snapshot {snapshot_id} is still read: its disk does not answer",
                    effect="No other snapshot is taken meanwhile.",
                    hint="See the kernel log for the disk of the COW space.",
                )
            for lane in self.lanes.values():
                if lane.physical is not None:
                    lane.physical.let_go(snapshot_id)

    # Small things -------------------------------------------------------------------------------

    def _begin(self, target: str, point_id: str, snapshot_id: str) -> None:
        lane = self.lanes[target]
        lane.point, lane.reads, lane.is_preparing = point_id, snapshot_id, bool(point_id)

    def _new_id(self, point_id: str) -> str:
        """Return an id that no snapshot has or had: that of the point, if it is one."""
        is_spent = point_id in self._gone or self._record.snapshot(point_id) is not None
        return f"p{secrets.token_hex(8)}" if is_spent else point_id

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)


def superseded(snapshot_id: str) -> SupersededError:
    """Return what a reader of a snapshot that went is told."""
    return SupersededError(
        f"the snapshot {snapshot_id} was given up, so that another target need not wait",
        effect="No point was made of it yet; what was sent is not sent again.",
        hint="Nothing needs to be done: it goes on from the newest snapshot by itself.",
    )


def _state(view: HostView, snapshot_id: str) -> str:
    found: SeenSnapshot | None = next(
        (s for s in view.snapshots if s.point_id == snapshot_id), None
    )
    return found.state if found is not None else "gone"
