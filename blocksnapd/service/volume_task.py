"""Keeps one volume protected: waits until a cycle is due, runs it, tells how it went."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blocksnapd.control.messages import parse_time, problem
from blocksnapd.cycle.calendar import Rhythm, due_in_s
from blocksnapd.cycle.rotation import Asked
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    CancelledRunError,
    ChecksumError,
    HookSkipError,
    StoreError,
    VolumeError,
)
from blocksnapd.pipeline import Cycle
from blocksnapd.service.cow_watch import WATCH_INTERVAL_S, CowWatch
from blocksnapd.service.pausing import Pausing
from blocksnapd.service.point_metrics import tell_points
from blocksnapd.service.relief import Relief
from blocksnapd.service.reporting import CycleReporter, as_known

if TYPE_CHECKING:
    from blocksnapd.config import Volume as Settings
    from blocksnapd.control.messages import Problem, Who
    from blocksnapd.metrics import Metrics
    from blocksnapd.model import RestorePoint
    from blocksnapd.ports import Clock
    from blocksnapd.service.hooks import TaskHooks
    from blocksnapd.service.opened import Opened, Opener
    from blocksnapd.service.reporting import Say
    from blocksnapd.service.runs import LiveRun, RunBook

log = logging.getLogger(__name__)


class VolumeTask:
    """The life of one volume in the daemon. Event loop only."""

    def __init__(
        self,
        settings: Settings,
        opener: Opener,
        *,
        book: RunBook,
        metrics: Metrics,
        say: Say,
        clock: Clock,
        slots: asyncio.Semaphore,
        pausing: Pausing | None = None,
        hooks: TaskHooks | None = None,
    ) -> None:
        self.settings = settings
        self.opened: Opened | None = None
        self.pausing = pausing or Pausing(settings.name, "", clock)
        self.failures = 0
        self.cause: Problem | None = None
        self.suspect: Problem | None = None
        self.cow_watch = CowWatch(settings, metrics, say, clock)
        self.last_turn = clock.monotonic()
        self._hooks = hooks
        self._opener = opener
        self._book = book
        self._metrics = metrics
        self._say = say
        self._clock = clock
        self._slots = slots
        self._rhythm = Rhythm(
            settings.every_s,
            settings.retry.first_s,
            settings.retry.factor,
            settings.retry.max_s,
        )
        self._relief = Relief(settings.name, say)
        self._started: float | None = None
        self._asked: LiveRun | None = None
        self._wake = asyncio.Event()
        self._cycle: Cycle | None = None
        self._is_stopping = self._is_retired = False
        self._opening: asyncio.Future[Opened] | None = None
        self._is_outdated = False

    def ask(
        self, *, tags: tuple[str, ...], full: bool, who: Who, lease: str = ""
    ) -> tuple[LiveRun, bool]:
        """Ask for a cycle now; return its run, and whether one under way was joined.

        Raises:
            BusyError: the daemon is stopping.
            RefusedError: the volume is restored in place, by somebody without this ``lease``.
        """
        self.pausing.check_asked(lease)
        active = self._active()
        if self._is_stopping or (self._is_retired and active is None):
            what = "the daemon is stopping" if self._is_stopping else "its settings are changing"
            raise BusyError(what, effect="No point is made.", hint="Ask again in a moment.")
        if active is not None:
            active.who = active.who or who  # so that it does not end without a point
            return active, True
        run = self._queue(tags)
        run.full, run.who = full, who
        self._asked = run
        self._wake.set()
        return run, False

    @property
    def is_at_work(self) -> bool:
        """Whether a cycle is under way or waits for a slot."""
        return self._active() is not None

    def _active(self) -> LiveRun | None:
        return self._book.active("cycle", self.settings.name, self.settings.target)

    def next_due_in_s(self) -> float:
        """Return the seconds until the next cycle may start."""
        since = None if self._started is None else self._clock.monotonic() - self._started
        return due_in_s(self._rhythm, since_start_s=since, failures=self.failures)

    def stop(self) -> None:
        """End after the step under way; what is not shipped yet is kept for the next start."""
        self._is_stopping = True
        self._wake.set()
        if self._cycle is not None:
            self._cycle.cancel(keep_pending=True)

    def retire(self) -> None:
        """Begin no run any more; one under way or asked for is seen through, then ``run`` ends.

        With several targets one that is slow would hold the others up: it goes on afterwards.
        """
        self._is_retired = True
        self._wake.set()
        if self.settings.further and self._cycle is not None:
            self._cycle.cancel(keep_pending=True)

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or (self._is_retired and self._asked is None)

    async def open(self) -> None:
        """Open the parts and repair what a crash left; a failure is told and tried again later."""
        await self._settle_hooks()  # first of all: an application may be held by them
        try:
            await self._open_parts()
        except Exception as caught:  # the other volumes must be protected all the same
            error = as_known(caught, self.settings.name)
            self.cause = problem(error)
            log.warning("%s: %s", self.settings.name, error.sentences())

    async def _settle_hooks(self) -> None:
        if self._hooks is not None:
            await self._hooks.settle()

    async def _open_parts(self) -> Opened:
        """Open the parts, unless they are and nothing says that they changed.

        An opening that hangs at a target is waited for, not begun again: it holds a thread.
        """
        if self.opened is not None and not self._is_outdated:
            return self.opened
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._opener())
        try:
            opened = await asyncio.shield(self._opening)
        finally:
            if self._opening is not None and self._opening.done():
                self._opening = None
        if opened is not self.opened:
            self.opened, self._is_outdated = opened, False
            self._note_opened(opened)
        return opened

    async def run(self) -> None:
        """Run cycles until :meth:`stop`."""
        if not self._is_stopping and not await self._is_held():
            await self._turn(is_start=True)
        while not self._is_over:
            await self._wait_until_due()
            if not self._is_over:
                await self._turn(is_start=False)
        if self._asked is not None:
            error = CancelledRunError(
                f"{self.settings.name}: the daemon ended before the run began",
                effect="No point was made.", hint="Ask again once it is back.",
            )  # fmt: skip
            self._book.finish(self._asked, "cancelled", error)

    async def _wait_until_due(self) -> None:
        while not self._is_over and self._asked is None:
            self.last_turn = self._clock.monotonic()
            can_rotate = not self.pausing.may_hold and not self.failures
            fills = await self.cow_watch.look(self.opened, can_rotate=can_rotate)
            if await self._is_held():
                await self._nap(WATCH_INTERVAL_S)
                continue
            pressure = self.cow_watch.pressure
            if self.failures and pressure is not None and self.opened is not None:
                await self._relief.give(self.opened, pressure)
            if self.next_due_in_s() <= 0 or (fills and not self.failures):
                return
            await self._nap(min(self.next_due_in_s(), WATCH_INTERVAL_S))

    async def _is_held(self) -> bool:
        paused = await asyncio.to_thread(self.pausing.message) if self.pausing.may_hold else None
        since = parse_time(paused["since"]).timestamp() if paused else None
        self._metrics.paused(self.settings.name, since)
        return paused is not None

    def wake(self) -> None:
        """Look again now whether a cycle is due."""
        self._wake.set()

    def tell_points(self) -> None:
        """Tell Prometheus of the points, after somebody changed what is known of them."""
        if self.opened is not None:
            where = self.settings.name, self.settings.target
            tell_points(self._metrics, *where, self.opened.catalogue)

    async def _nap(self, seconds: float) -> None:
        self._wake.clear()
        if self._asked is not None or self._is_over:
            return
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        wake = asyncio.ensure_future(self._wake.wait())
        await asyncio.wait({nap, wake}, return_when=asyncio.FIRST_COMPLETED)
        for task in (nap, wake):
            await _cancelled(task)

    def _queue(self, tags: tuple[str, ...] = ()) -> LiveRun:
        run = self._book.queue("cycle", self.settings.name)
        run.target, run.tags = self.settings.target, tags
        return run

    async def _turn(self, *, is_start: bool) -> None:
        run, self._asked = self._asked or self._queue(), None
        trouble: Exception | None = None
        await self._settle_hooks()
        try:
            await self._open_parts()  # without a slot: a target that hangs must not take them all
        except Exception as caught:
            trouble = caught
        async with self._slots:
            self._book.start(run)
            self._metrics.run_started(self.settings.name, self.settings.target)
            error: BlocksnapError | None = None
            points: list[RestorePoint] = []
            try:
                if trouble is not None:
                    raise trouble
                await self._attempt(run, points, is_start=is_start)
            except Exception as caught:  # a mistake of ours must not end the protection
                error = as_known(caught, run.volume)
                # Made anew, resized, on another disk, a point more than we know of: look again.
                self._is_outdated |= isinstance(caught, VolumeError | StoreError)
        if self._hooks is not None and error is not None and not _is_wanted(error):
            await self._hooks.failed(run, error)
        self._finish(run, points, error)

    async def _attempt(self, run: LiveRun, points: list[RestorePoint], *, is_start: bool) -> None:
        assert self.opened is not None
        due = run.who is not None or not is_start or self._is_due_at_start(self.opened)
        if due:
            self._started = self._clock.monotonic()
        reporter = CycleReporter(run, self._metrics, self._say, self._clock)
        hooks = self._hooks.of(run, reporter) if self._hooks is not None else None
        cycle = self._cycle = Cycle(self.opened.volume, reporter, hooks)
        run.cancel = lambda: cycle.cancel(keep_pending=False)
        if self._is_stopping:
            cycle.cancel(keep_pending=True)
        watching = asyncio.create_task(self.cow_watch.watch(self.opened))
        try:
            await cycle.run(
                Asked(due=due, compare="asked" if run.full else self._relief.compare), run.tags
            )
            if run.who is not None and not due and not cycle.committed:
                # Somebody joined while we only looked whether a crash had left something to do.
                self._started = self._clock.monotonic()
                await cycle.run(Asked(due=True, compare=self._relief.compare), run.tags)
        finally:
            await _cancelled(watching)
            points += cycle.committed
            self._cycle = None
            if self._started is None:
                self._started = self._clock.monotonic()

    def _is_due_at_start(self, opened: Opened) -> bool:
        """After a restart the rhythm goes on from the newest point."""
        newest = opened.catalogue.newest()
        if newest is None:
            return True
        age = self._clock.now() - parse_time(newest["time"]).timestamp()
        if 0 <= age < self._rhythm.every_s:
            self._started = self._clock.monotonic() - age
            return False
        return True

    def _note_opened(self, opened: Opened) -> None:
        name, target, newest = self.settings.name, self.settings.target, opened.catalogue.newest()
        v = opened.volume
        self._metrics.volume(name, driver=v.source.driver, volume_id=v.volume_id)
        self.tell_points()
        if newest is not None:
            self._metrics.last_point(name, target, parse_time(newest["time"]).timestamp())

    def _finish(
        self, run: LiveRun, points: list[RestorePoint], error: BlocksnapError | None
    ) -> None:
        name, target = self.settings.name, self.settings.target
        if isinstance(error, CancelledRunError):
            result = "cancelled"
        elif isinstance(error, HookSkipError):
            result, error = "skipped", None
        elif error is not None:
            result = "failed"
            self._note_failure(run, error)
        else:
            result = "warning" if run.warnings else "success" if points else "skipped"
            self.failures, self.cause = 0, None
            self._relief.end()
        for point in points:
            self._note_point(run, point)
        self._metrics.failures_in_a_row(name, target, self.failures)
        self._metrics.run_finished(
            name, target, kind="cycle", result=result, code=error.code if error else ""
        )
        self._book.finish(run, result, error)  # type: ignore[arg-type]

    def _note_proof(self, point: RestorePoint) -> None:
        # The volume stays in the state it got by a mismatch until a later proof is clean.
        proof = point.facts.proof
        if proof.mismatched_blocks:
            error = ChecksumError(
                f"{proof.mismatched_blocks} of {proof.checked_blocks} blocks of the point before "
                f"{point.facts.point_id} were not what the volume held then.",
                effect="That point is suspect; the whole volume was compared, so the new one "
                "is right.",
                hint="Look at the host's disks and memory. The next clean proof ends this state.",
            )
            self.suspect = problem(error)
        elif proof.checked_blocks:
            self.suspect = None

    def _note_failure(self, run: LiveRun, error: BlocksnapError) -> None:
        self.failures += 1
        self.cause = problem(error)
        self._started = self._clock.monotonic()
        data: dict[str, object] = {"run": run.run_id, "code": error.code}
        self._say("run-failed", error.sentences(), severity="error", volume=run.volume, data=data)

    def _note_point(self, run: LiveRun, point: RestorePoint) -> None:
        assert self.opened is not None
        f, name, target = point.facts, self.settings.name, self.settings.target
        run.point, run.reason = f.point_id, f.reason
        run.changed_bytes, run.shipped_bytes = f.changed_bytes, point.shipped_bytes
        run.stored_bytes = point.stored_bytes
        if strange := self.opened.catalogue.surprise(point):
            self._say("place-changed", strange, severity="warning", volume=name, data={})
        try:
            self.opened.catalogue.add(point)
        except OSError as failure:
            log.warning("%s: listings will lack details of %s: %s", name, f.point_id, failure)
        self._metrics.point_committed(
            name, target, time=f.time.timestamp(), changed=f.changed_bytes,
            shipped=point.shipped_bytes, stored=point.stored_bytes,
        )  # fmt: skip
        self._metrics.proof(
            name, checked=f.proof.checked_blocks, mismatched=f.proof.mismatched_blocks
        )
        self.tell_points()
        self._metrics.volume_size(name, f.size)
        self._note_proof(point)
        if f.method != "tracked":
            self._metrics.full_scan(name, f.reason)
        self._say(
            "point",
            f"{name}: point {f.point_id} committed, {f.method}",
            severity="info",
            volume=name,
            data={"point": f.point_id, "changed_bytes": f.changed_bytes, "run": run.run_id},
        )


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """End a task of ours."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _is_wanted(error: BlocksnapError) -> bool:
    """Whether somebody wanted the run to end so."""
    return isinstance(error, CancelledRunError | HookSkipError)
