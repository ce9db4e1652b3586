"""Shipping one pending snapshot: the part of a cycle that moves data. Blocking; one thread.

list changes → prove the last point → read, hash, ship what differs
→ were both snapshots whole all the time? → seal fingerprints → commit
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blocksnapd import blocks as block_math
from blocksnapd.blocks import runs_of
from blocksnapd.errors import (
    CancelledRunError,
    ObjectExistsError,
    TrackingLostError,
    VolumeError,
)
from blocksnapd.model import Extents, PointFacts, Proof
from blocksnapd.ship.again import KnownWithout, still_held, with_blocks
from blocksnapd.ship.prover import RANGES_MAX, Prover
from blocksnapd.ship.reading import BATCH_SIZE, one_ahead
from blocksnapd.ship.shipper import Shipper

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from blocksnapd.cycle.journal import Journal
    from blocksnapd.cycle.rotation import Ship
    from blocksnapd.model import U64, HostView, PointHead, RestorePoint, SavedBatch, Wanted
    from blocksnapd.ports import (
        BlockReader,
        ChangeSource,
        Clock,
        KnownContent,
        PointSink,
        PointStore,
    )
    from blocksnapd.ship.fingerprints import Fingerprints, FingerprintStore, Update
    from blocksnapd.ship.shipper import Progress, Shipment


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
    """The parts one volume's cycle is made of; ``session_log``: see ``ports.PointStore.begin``."""

    name: str
    volume_id: str
    block_size: int
    source: ChangeSource
    store: PointStore
    fingerprints: FingerprintStore
    journal: Journal
    clock: Clock
    session_log: str = ""


@contextmanager
def timed(reporter: Reporter, name: str) -> Iterator[None]:
    """Report how long the body took, if it did not fail."""
    started = time.monotonic()
    yield
    reporter.phase(name, time.monotonic() - started)


class Shipping:
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
        self._block_size = (head.block_size if head else 0) or volume.block_size
        self._known: Fingerprints | None = None
        self._wanted: Wanted | None = None
        self._again: U64 | None = None
        self._tracked: Extents | None = None
        self.is_commit_begun = False

    def run(self) -> RestorePoint:
        """Prove the base, ship what differs, commit.

        Raises:
            TrackingLostError: a snapshot became invalid. CancelledRunError: it was stopped.
            HostError, StoreError: not committed; earlier points are untouched.
        """
        self._wanted = self._volume.store.wanted(self._volume.volume_id)
        self._choose_base()
        with timed(self._reporter, "scan"):
            extents, chunk_size = self._extents()
        with timed(self._reporter, "prove"):
            proof = self._prove()
        if proof.mismatched_blocks:
            extents = self._resync(proof)
        extents = self._with_wanted(extents)
        self._reporter.step("listed")
        return self._note_commit(self._transfer(extents, chunk_size, proof))

    def _choose_base(self) -> None:
        head = self._head
        if head is None:
            return
        if head.is_damaged:
            self._reporter.event(
                "point-damaged",
                f"{self._volume.name}: the newest point {head.point_id} is damaged in the "
                "repository. A full point follows it, so that protection goes on. See what else is "
                "harmed: blocksnapctl verify VOLUME",
                point=head.point_id,
            )
            self._start_afresh("damaged")
            return
        self._known = self._volume.fingerprints.open(head.point_id)
        if self._known is None:
            self._start_afresh("fingerprints-gone")
        elif self._wanted is not None and self._wanted.afresh:
            self._start_afresh("damaged")
        elif self._size < head.size:
            self._start_afresh("shrunk")
        elif self._size > head.size:
            self._compare("grown")
        if self._known is not None and self._command.method == "compare":
            self._trust_or_start_afresh()

    def _compare(self, reason: str) -> None:
        self._command = replace(
            self._command, method="compare", base_id="", reason=reason, check_id=""
        )

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
        if self._command.check_id:
            self._check_against_tracking()
        return Extents.whole(self._size), 0

    def _check_against_tracking(self) -> None:
        # Read after the new snapshot was taken, the table lists every change up to it.
        try:
            self._tracked = self._volume.source.changes(self._command.check_id).extents
        except TrackingLostError:
            self._command = replace(self._command, check_id="")  # a compare needs it for nothing

    def _with_wanted(self, extents: Extents) -> Extents:
        # What is damaged in the repository and whole here goes along, changed or not.
        if self._wanted is None or not len(self._wanted.blocks):
            return extents
        self._again = still_held(self._wanted, self._known)
        return with_blocks(extents, self._again, block_size=self._block_size, size=self._size)

    def _prove(self) -> Proof:
        base_id = self._command.base_id or self._command.check_id
        if not base_id:
            return Proof()
        assert self._known is not None
        prover = Prover(self._known, size=self._size, hash_key=self._volume.store.hash_key)
        saved = self._volume.source.saved(base_id, batch_size=BATCH_SIZE)
        with closing(one_ahead(self._until_stopped(saved))) as ahead:
            return prover.prove(ahead)

    def _until_stopped(self, saved: Iterator[SavedBatch]) -> Iterator[SavedBatch]:
        for batch in saved:
            if self._stop.is_set():
                raise CancelledRunError("the run was cancelled while it proved the last point")
            yield batch

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
        volume = self._volume
        update = volume.fingerprints.begin(
            self._command.point_id,
            self._known,
            block_size=self._block_size,
            block_count=-(-self._size // self._block_size),
        )
        with closing(update):
            sink = volume.store.begin(
                volume.volume_id, self._command.point_id, block_size=self._block_size,
                base=self._head, known=self._known_content(update), log=volume.session_log,
            )  # fmt: skip
            try:
                shipment = self._pump(sink, update, extents)
                self._reporter.step("shipped")
                used = tuple(i for i in (self._command.base_id, self._command.point_id) if i)
                volume.source.check_valid(used)
                proof = self._with_untracked(proof, shipment)
                facts = self._facts(shipment, chunk_size, proof)
                with timed(self._reporter, "commit"):
                    point = self._commit(sink, update, facts)
            except BaseException:
                sink.abort()
                raise
        self._reporter.step("committed")
        self._note_served(shipment)
        return point

    def _known_content(self, update: Update) -> KnownContent:
        if self._wanted is None or not len(self._wanted.blocks):
            return update.content
        return KnownWithout(update.content, self._wanted)

    def _commit(self, sink: PointSink, update: Update, facts: PointFacts) -> RestorePoint:
        # Content first, then what the next cycle starts from, then the point: each durable.
        update.seal(sink.finish(facts))
        self._reporter.step("sealed")
        self.is_commit_begun = True
        try:
            return sink.commit(facts)
        except ObjectExistsError:
            # What took the place may be an earlier try of this very point that a network delivered
            # late: of the same content, in other packs than those that are sealed now.
            self._volume.fingerprints.unseal()
            raise

    def _pump(self, sink: PointSink, update: Update, extents: Extents) -> Shipment:
        volume = self._volume
        with volume.source.open_snapshot(self._command.point_id) as reader:
            self._check_size(reader)
            shipper = Shipper(
                reader,
                self._known,
                sink,
                update,
                hash_key=volume.store.hash_key,
                block_size=self._block_size,
                progress=self._reporter.progress,
                cancelled=self._stop.is_set,
                again=self._again,
                tracked=self._tracked if self._command.check_id else None,
            )
            with timed(self._reporter, "transfer"):
                return shipper.ship(extents)

    def _check_size(self, reader: BlockReader) -> None:
        # A snapshot keeps the size its origin had; what is written behind it is tracked by none.
        if reader.size != self._size:
            raise VolumeError(
                f"{self._volume.name}: the snapshot of {self._command.point_id} has {reader.size} "
                f"bytes, the volume {self._size}: it was resized since.",
                effect="No point was made of it; the next one is of the new size.",
            )

    def _with_untracked(self, proof: Proof, shipment: Shipment) -> Proof:
        if not shipment.untracked:
            return proof
        assert self._head is not None
        blocks = np.concatenate(shipment.untracked)
        starts, counts = runs_of(blocks)
        ends = np.minimum((starts + counts) * np.uint64(self._block_size), np.uint64(self._size))
        starts = starts * np.uint64(self._block_size)
        ranges = tuple(zip(starts[:RANGES_MAX].tolist(), ends[:RANGES_MAX].tolist(), strict=True))
        self._reporter.event(
            "tracking-lied",
            f"{self._volume.name}: {len(blocks)} blocks are not what point {self._head.point_id} "
            "says, although no change of them was tracked; that point is suspect. The new point is "
            "right: the whole volume was compared.",
            suspect=self._head.point_id,
            untracked_blocks=len(blocks),
            ranges=[list(r) for r in ranges],
        )
        return Proof(
            proof.checked_blocks + len(blocks),
            proof.mismatched_blocks + len(blocks),
            (proof.ranges + ranges)[:RANGES_MAX],
        )

    def _note_served(self, shipment: Shipment) -> None:
        wanted = self._wanted
        if wanted is None or not wanted.records:
            return
        self._volume.store.served(wanted)
        what = "everything" if wanted.afresh else f"{shipment.again_bytes} unchanged bytes"
        self._reporter.event(
            "shipped-again",
            f"{self._volume.name}: the repository holds damaged content; {what} went there once "
            "more, so that maintenance can heal the points that need it.",
            again_bytes=shipment.again_bytes,
            records=list(wanted.records),
        )

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
            consistency=pending.consistency or volume.source.consistency,
            chunk_size=chunk_size,
            changed_bytes=shipment.changed_bytes,
            state_sum=block_math.state_add(kept, shipment.state_added, shipment.state_removed),
            reason=command.reason,
            proof=proof,
            tags=pending.tags,
        )
