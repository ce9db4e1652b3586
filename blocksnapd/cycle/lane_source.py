"""A volume as one of several targets sees it: a ``ChangeSource`` over shared snapshots. Edge.

To the cycle of that target it looks as if the volume were its own: the snapshots it sees are the
claims about its points (``claims.py``). A base that was folded away still lists its changes; a
pending snapshot that was given up cannot be read any more, which ends that cycle and lets it go on
from the newest one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blocksnapd.cycle import owed
from blocksnapd.cycle.shared_snapshots import superseded
from blocksnapd.errors import StateError, SupersededError, TrackingLostError
from blocksnapd.model import Changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from blocksnapd.cycle.claims import Claim, Held
    from blocksnapd.cycle.lane import Physical
    from blocksnapd.cycle.shared_snapshots import SharedSnapshots
    from blocksnapd.model import Extents, HostView, SavedBatch, Taken
    from blocksnapd.ports import BlockReader


class LaneSource:
    """The ``ChangeSource`` of one target. Methods that are not async block.

    Args:
        shared: what all targets of the volume have in common.
        target: whose view it is.
        physical: a way to the content of snapshots that nobody else uses.
    """

    def __init__(self, shared: SharedSnapshots, target: str, physical: Physical) -> None:
        self._shared, self._target, self._physical = shared, target, physical
        shared.lanes[target].physical = physical
        self._turn: tuple[Held | None] | None = None

    @property
    def driver(self) -> str:
        """The driver's name."""
        return self._physical.driver

    @property
    def tracks(self) -> bool:
        """Whether changes are tracked."""
        return self._physical.tracks

    @property
    def consistency(self) -> str:
        """What is known of the last point's instant."""
        return self._physical.consistency

    async def observe(self, *, again: bool = False) -> HostView:
        """Look at the volume; every point that something is known of shows as a snapshot."""
        view = await self._physical.observe(again=again)
        by_id = {s.point_id: s for s in view.snapshots if s.state != "half"}
        seen = [s for s in view.snapshots if s.state == "half"]
        seen += (
            replace(by_id[c.at], point_id=c.point_id)
            for c in self._shared.claims_of(self._target)
            if c.at in by_id
        )
        return replace(view, snapshots=tuple(seen))

    async def repair(self) -> list[str]:
        """Repair every half-done state."""
        async with self._shared.gate:
            return await self._shared.host.repair()

    async def enter(self, newer_than: float) -> Held | None:
        """Begin a turn in which no other target takes a snapshot; ``leave`` ends it.

        Returns:
            The snapshot that ``take`` will share, or None: it will take one.
        """
        await self._shared.gate.acquire()
        try:
            held = await self._shared.to_share(self._target, newer_than)
        except BaseException:
            self._shared.gate.release()
            raise
        self._turn = (held,)
        return held

    def leave(self) -> None:
        """End the turn, if there is one."""
        if self._turn is not None:
            self._turn = None
            self._shared.gate.release()

    async def note(self, point_id: str, consistency: str, *, is_fit: bool) -> None:
        """Note, within the turn, what hooks made of the snapshot taken in it."""
        await self._shared.note(self._target, point_id, consistency, is_fit=is_fit)

    async def take(self, point_id: str) -> Taken:
        """Take a snapshot for ``point_id``, or share one that another target just took."""
        if self._turn is None:
            await self.enter(0.0)
            try:
                return await self.take(point_id)
            finally:
                self.leave()
        (held,) = self._turn
        if held is not None:
            return await self._shared.share(self._target, point_id, held)
        return await self._shared.take(self._target, point_id)

    def open_snapshot(self, point_id: str) -> BlockReader:
        """Open the content of the volume at the instant of ``point_id``.

        Raises:
            SupersededError: its snapshot was given up.
        """
        claim = self._claim(point_id)
        if claim is None or not claim.is_exact:
            raise superseded(claim.at if claim else point_id)
        with self._shared.use(claim.at):
            reader = self._physical.open_snapshot(claim.at)
        self._shared.begin_reading(self._target, point_id, claim.at)
        return _SharedReader(self._shared, self._target, claim.at, reader)

    def changes(self, base_id: str) -> Changes:
        """Return what may have changed since ``base_id``.

        Raises:
            TrackingLostError: nobody knows.
        """
        while True:
            claim, extents = self._owed(base_id)
            newest = self._shared.claims_of(self._target)[-1]  # of the point under way
            if newest.point_id != base_id and newest.is_exact and newest.at == claim.at:
                return Changes(extents, 0, len(extents))  # the list reaches its snapshot
            try:
                with self._shared.use(claim.at):
                    found = self._physical.changes(claim.at)
                    self._physical.check_valid((claim.at,))
            except SupersededError:
                continue  # folded away meanwhile: what it tracked is in the list now
            return replace(found, extents=owed.union(extents, found.extents))

    def saved(self, base_id: str, *, batch_size: int) -> Iterator[SavedBatch]:
        """Yield the old content of what changed, as far as a snapshot of ``base_id`` has it."""
        claim = self._claim(base_id)
        if claim is None or not claim.is_exact:
            return
        batches: Iterator[SavedBatch] | None = None
        while True:
            try:
                with self._shared.use(claim.at):
                    batches = batches or self._physical.saved(claim.at, batch_size=batch_size)
                    batch = next(batches, None)
            except SupersededError:
                return  # a proof of less is a proof, too
            if batch is None:
                return
            yield batch

    def check_valid(self, point_ids: tuple[str, ...]) -> None:
        """Make sure that what is known of these points was whole up to now.

        A snapshot that was removed meanwhile was looked at right before.

        Raises:
            TrackingLostError: the base's was not. SupersededError: the last one's was not.
        """
        for point_id in point_ids:
            while (claim := self._claim(point_id)) is not None:
                try:
                    with self._shared.use(claim.at):
                        self._physical.check_valid((claim.at,))
                    break
                except SupersededError:
                    continue  # put to another snapshot meanwhile
            else:
                raise superseded(point_id) if point_id == point_ids[-1] else _lost(point_id)

    async def remove(self, point_id: str) -> None:
        """Forget ``point_id``; a snapshot that no target needs any more is removed."""
        await self._shared.forget(self._target, point_id)

    def at(self, point_id: str) -> str:
        """Return the id of the snapshot that tracks since ``point_id``, or empty."""
        claim = self._claim(point_id)
        return claim.at if claim is not None else ""

    def _claim(self, point_id: str) -> Claim | None:
        return self._shared.claim(self._target, point_id)

    def _owed(self, base_id: str) -> tuple[Claim, Extents]:
        while True:
            claim = self._claim(base_id)
            if claim is None:
                raise _lost(base_id)
            try:
                return claim, self._shared.files.owed(claim)
            except FileNotFoundError as error:
                if self._claim(base_id) == claim:
                    raise _lost(base_id) from error
            except StateError as error:
                raise _lost(base_id) from error


class _SharedReader:
    """A snapshot's content for as long as the snapshot stays."""

    def __init__(
        self, shared: SharedSnapshots, target: str, snapshot_id: str, reader: BlockReader
    ) -> None:
        self._shared, self._target = shared, target
        self._snapshot_id, self._reader = snapshot_id, reader
        self._is_open = True
        self.size = reader.size

    def read_into(self, offset: int, view: memoryview) -> None:
        with self._shared.use(self._snapshot_id):
            self._reader.read_into(offset, view)

    def close(self, *, is_whole: bool = False) -> None:
        if self._is_open:
            self._is_open = False
            self._shared.close(self._reader)
            self._shared.end_reading(self._target, is_whole=is_whole)

    def __enter__(self) -> _SharedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close(is_whole=kind is None)


def _lost(point_id: str) -> TrackingLostError:
    return TrackingLostError(
        f"What changed since {point_id} is not known any more",
        effect="The next point needs a full compare of the volume; no earlier point is affected.",
        hint="The log says whether the COW space was full or the state directory failed.",
    )
