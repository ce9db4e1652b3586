"""One cycle of one volume, from top to bottom: the only place where the verbs meet.

    observe → decide → take | ship | remove | repair → observe → … → wait

    ship:  list changes → prove the last point → read, hash, ship what differs
           → were both snapshots whole all the time? → seal fingerprints → commit

Killed anywhere, the next :meth:`Cycle.run` looks at the host and at the repository, and goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from blocksnapd import blocks as block_math
from blocksnapd.cycle.journal import Pending
from blocksnapd.cycle.rotation import (
    OVERFLOW,
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
    HostError,
    TrackingLostError,
)
from blocksnapd.model import Extents, PointFacts, Proof
from blocksnapd.ship.prover import Prover
from blocksnapd.ship.reading import BATCH_SIZE
from blocksnapd.ship.shipper import Shipper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.cycle.journal import Journal
    from blocksnapd.cycle.rotation import Command
    from blocksnapd.model import HostView, PointHead, RestorePoint
    from blocksnapd.ports import ChangeSource, Clock, PointSink, PointStore
    from blocksnapd.ship.fingerprints import Fingerprints, FingerprintStore, Update
    from blocksnapd.ship.shipper import Progress, Shipment

# A cycle settles in about six commands; more means that the host does not do what it is told.
COMMANDS_MAX = 20


class Reporter(Protocol):
    """Hears what a cycle does. Called from several threads; must not block or raise."""

    def step(self, name: str) -> None:
        """One step is done; a crash right after it is a state that recovery must know."""

    def phase(self, name: str, seconds: float) -> None:
        """A phase took so long: snapshot, scan, prove, transfer, commit, remove."""

    def progress(self, progress: Progress) -> None:
        """A batch was shipped."""

    def event(self, kind: str, message: str, **fields: object) -> None:
        """Something an operator wants to know happened."""


@dataclass(frozen=True, slots=True)
class Volume:
    """The parts one volume's cycle is made of."""

    name: str
    volume_id: str
    block_size: int
    source: ChangeSource
    store: PointStore
    fingerprints: FingerprintStore
    journal: Journal
    clock: Clock


class Cycle:
    """Runs cycles of one volume, one at a time."""

    def __init__(self, volume: Volume, reporter: Reporter) -> None:
        self._volume = volume
        self._reporter = reporter
        self._stop = threading.Event()
        self._keep_pending = False
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
        for _ in range(COMMANDS_MAX):
            view, head, command = await self._next(asked)
            if isinstance(command, Wait):
                return
            if self._stop.is_set() and isinstance(command, Take | Ship):
                if self.committed:
                    return
                raise CancelledRunError("the run was cancelled")
            try:
                await self._perform(command, view, head, tags)
            except TrackingLostError as error:
                self._reporter.event("tracking-lost", error.sentences())
                asked = replace(asked, compare=OVERFLOW)
            except (HostError, BusyError) as error:
                if not self.committed or not isinstance(command, Remove):
                    raise
                # The point stands. The next cycle removes the old snapshot before all else.
                self._reporter.event("remove-failed", error.sentences())
                return
            if isinstance(command, Take):
                asked = replace(asked, due=False)
            elif isinstance(command, Remove) and command.why == OVERFLOW:
                self._reporter.event("tracking-lost", self._overflowed())
                asked = replace(asked, compare=OVERFLOW)
        raise HostError(
            f"{self._volume.name}: {COMMANDS_MAX} commands did not bring the host to rest; "
            f"the last was {command}",
            effect="No point was harmed; changes since the last one may be untracked.",
            hint="Look at the last events, then run: blocksnapctl doctor --fix",
        )

    def _overflowed(self) -> str:
        return (
            f"{self._volume.name}: the snapshot that tracked its changes became invalid: its COW "
            "device was full or failed. The volume is not harmed; it is compared as a whole now, "
            "and only what differs is shipped."
        )

    async def _next(self, asked: Asked) -> tuple[HostView, PointHead | None, Command]:
        volume = self._volume
        view = await volume.source.observe()
        head = await asyncio.to_thread(volume.store.newest, volume.volume_id)
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
            with self._phase("remove"):
                await source.remove(command.point_id)
            self._reporter.step("removed")
        elif isinstance(command, Take):
            await self._take(tags)
        elif isinstance(command, Ship):
            self.committed.append(await self._ship_or_drop(command, view, head))

    async def _take(self, tags: tuple[str, ...]) -> None:
        volume = self._volume
        now = datetime.fromtimestamp(volume.clock.now(), UTC)
        pending = Pending(f"p{secrets.token_hex(8)}", now, tags)
        await asyncio.to_thread(volume.journal.begin, pending)
        self._reporter.step("begun")
        with self._phase("snapshot"):
            taken = await volume.source.take(pending.point_id)
        self._reporter.step("taken")
        self._reporter.phase("freeze", taken.suspend_s)
        pending = Pending(pending.point_id, taken.time, tags, taken.suspend_s)
        await asyncio.to_thread(volume.journal.begin, pending)
        self._reporter.step("noted")

    async def _ship_or_drop(
        self, command: Ship, view: HostView, head: PointHead | None
    ) -> RestorePoint:
        try:
            return await asyncio.to_thread(self._ship, command, view, head)
        except TrackingLostError:
            raise
        except BlocksnapError:
            # The base goes on tracking from the last committed point; a second snapshot that
            # nobody ships would only cost the host. A daemon that stops keeps it: it goes on.
            if not (self._stop.is_set() and self._keep_pending):
                await self._volume.source.remove(command.point_id)
                await asyncio.to_thread(self._volume.journal.end)
            raise

    def _ship(self, command: Ship, view: HostView, head: PointHead | None) -> RestorePoint:
        shipping = _Shipping(self._volume, self._reporter, self._stop, command, view, head)
        try:
            return shipping.run()
        except OSError as error:
            raise HostError(
                f"{self._volume.name}: the daemon's state directory failed: {error}",
                effect="The point was not committed; earlier points are untouched.",
                hint="Give the state directory room, or repair its disk; the next cycle retries.",
            ) from error

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with timed(self._reporter, name):
            yield


@contextmanager
def timed(reporter: Reporter, name: str) -> Iterator[None]:
    """Report how long the body took, if it did not fail."""
    started = time.monotonic()
    yield
    reporter.phase(name, time.monotonic() - started)


class _Shipping:
    """Ships one pending snapshot and commits its point. Blocking; one thread."""

    def __init__(
        self,
        volume: Volume,
        reporter: Reporter,
        stop: threading.Event,
        command: Ship,
        view: HostView,
        head: PointHead | None,
    ) -> None:
        self._volume = volume
        self._reporter = reporter
        self._stop = stop
        self._command = command
        self._size = view.size
        self._head = head
        self._block_size = head.block_size if head else volume.block_size
        self._known: Fingerprints | None = None

    def run(self) -> RestorePoint:
        self._choose_base()
        with timed(self._reporter, "scan"):
            extents, chunk_size = self._extents()
        with timed(self._reporter, "prove"):
            proof = self._prove()
        if proof.mismatched_blocks:
            extents = self._resync(proof)
        self._reporter.step("listed")
        return self._note_commit(self._transfer(extents, chunk_size, proof))

    def _choose_base(self) -> None:
        head = self._head
        if head is None:
            return
        self._known = self._volume.fingerprints.open(head.point_id)
        if self._known is None:
            self._start_afresh("fingerprints-gone")
        elif self._size < head.size:
            self._start_afresh("shrunk")
        elif self._size > head.size:
            self._compare("grown")
        if self._known is not None and self._command.method == "compare":
            self._trust_or_start_afresh()

    def _compare(self, reason: str) -> None:
        self._command = replace(self._command, method="compare", base_id="", reason=reason)

    def _start_afresh(self, reason: str) -> None:
        self._known = None
        self._compare(reason)

    def _trust_or_start_afresh(self) -> None:
        # The repository committed to the sum over all blocks: fingerprints with another sum are
        # not what it holds, and a compare against them could leave a change out.
        assert self._known is not None
        assert self._head is not None
        if self._known.state_sum() != self._head.state_sum:
            self._reporter.event(
                "fingerprints-wrong",
                f"{self._volume.name}: the local fingerprints are not those of the newest point; "
                "everything is shipped afresh.",
            )
            self._start_afresh("fingerprints-wrong")

    def _extents(self) -> tuple[Extents, int]:
        if self._command.method == "tracked":
            changes = self._volume.source.changes(self._command.base_id)
            return changes.extents, changes.chunk_size
        return Extents.whole(self._size), 0

    def _prove(self) -> Proof:
        if self._command.method != "tracked":
            return Proof()
        assert self._known is not None
        prover = Prover(self._known, size=self._size, hash_key=self._volume.store.hash_key)
        return prover.prove(self._volume.source.saved(self._command.base_id, batch_size=BATCH_SIZE))

    def _resync(self, proof: Proof) -> Extents:
        assert self._head is not None
        self._reporter.event(
            "proof-mismatch",
            f"{self._volume.name}: {proof.mismatched_blocks} of {proof.checked_blocks} blocks were "
            f"not what point {self._head.point_id} says; that point is suspect. "
            "The whole volume is compared now, so that the next point is right.",
            suspect=self._head.point_id,
            mismatched_blocks=proof.mismatched_blocks,
            ranges=[list(r) for r in proof.ranges],
        )
        self._compare("proof-mismatch")
        self._trust_or_start_afresh()
        return Extents.whole(self._size)

    def _transfer(self, extents: Extents, chunk_size: int, proof: Proof) -> RestorePoint:
        volume, point_id = self._volume, self._command.point_id
        sink = volume.store.begin(
            volume.volume_id, point_id, block_size=self._block_size, base=self._head
        )
        try:
            return self._fill_and_commit(sink, extents, chunk_size, proof)
        except BaseException:
            sink.abort()
            raise

    def _fill_and_commit(
        self, sink: PointSink, extents: Extents, chunk_size: int, proof: Proof
    ) -> RestorePoint:
        volume, point_id = self._volume, self._command.point_id
        update = volume.fingerprints.begin(
            point_id,
            self._known,
            block_size=self._block_size,
            block_count=-(-self._size // self._block_size),
        )
        with closing(update):
            shipment = self._pump(sink, update, extents)
            self._reporter.step("shipped")
            used = tuple(i for i in (self._command.base_id, point_id) if i)
            volume.source.check_valid(used)
            update.seal()
        self._reporter.step("sealed")
        with timed(self._reporter, "commit"):
            point = sink.commit(self._facts(shipment, chunk_size, proof))
        self._reporter.step("committed")
        return point

    def _pump(self, sink: PointSink, update: Update, extents: Extents) -> Shipment:
        volume = self._volume
        with volume.source.open_snapshot(self._command.point_id) as reader:
            shipper = Shipper(
                reader,
                self._known,
                sink,
                update,
                hash_key=volume.store.hash_key,
                block_size=self._block_size,
                progress=self._reporter.progress,
                cancelled=self._stop.is_set,
            )
            with timed(self._reporter, "transfer"):
                return shipper.ship(extents)

    def _note_commit(self, point: RestorePoint) -> RestorePoint:
        # The point stands, whatever happens from here on: a failure is told, and mended by the
        # next cycle, which looks at the repository first.
        try:
            self._volume.journal.end()
            self._volume.fingerprints.open(point.facts.point_id)
        except OSError as error:
            self._reporter.event(
                "state-failed",
                f"{self._volume.name}: point {point.facts.point_id} is committed, but the state "
                f"directory failed: {error}. Give it room or repair its disk.",
            )
        self._reporter.step("ended")
        return point

    def _facts(self, shipment: Shipment, chunk_size: int, proof: Proof) -> PointFacts:
        volume, command = self._volume, self._command
        pending = volume.journal.record.pending
        assert pending is not None
        kept = self._head.state_sum if self._head and self._known else 0
        return PointFacts(
            volume_id=volume.volume_id,
            volume_name=volume.name,
            point_id=command.point_id,
            time=pending.time,
            size=self._size,
            block_size=self._block_size,
            kind="delta" if self._known else "full",
            method=command.method,
            driver=volume.source.driver,
            consistency=volume.source.consistency,
            chunk_size=chunk_size,
            changed_bytes=shipment.changed_bytes,
            state_sum=block_math.state_add(kept, shipment.state_added, shipment.state_removed),
            reason=command.reason,
            proof=proof,
            tags=pending.tags,
        )
