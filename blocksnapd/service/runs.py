"""Runs: what is being done, what was done last, and waiting for it.

A live run is changed by the thread that does the work and read by the event loop; every field is
replaced whole, so a reader sees an old value or a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocksnapd.control.messages import SCHEMA, Run, format_time, problem
from blocksnapd.errors import BusyError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from blocksnapd.control.messages import Problem, RunKind, RunResult, Who
    from blocksnapd.errors import BlocksnapError
    from blocksnapd.ports import Clock

RUNS_MAX = 200
PAST_MAX = 1000
FOLLOW_INTERVAL_S = 0.2


@dataclass(slots=True, eq=False)
class LiveRun:
    """One run. ``cancel`` is called, from the event loop, when somebody asks it to stop."""

    run_id: str
    kind: RunKind
    volume: str
    clock: Clock
    queued_at: float
    target: str = ""
    tags: tuple[str, ...] = ()
    full: bool = False
    who: Who | None = None
    cancel: Callable[[], None] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    started_monotonic: float = 0.0
    duration_s: float = 0.0
    result: RunResult | None = None
    phase: str = ""
    phases: dict[str, float] = field(default_factory=dict)
    done_bytes: int = 0
    expected_bytes: int = 0
    changed_bytes: int = 0
    shipped_bytes: int = 0
    stored_bytes: int = 0
    suspend_s: float = 0.0
    point: str = ""
    to: str = ""
    plan: str = ""
    dry_run: bool = False
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    error: Problem | None = None
    more: Run = field(default_factory=Run)  # what only some kinds of runs tell
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def message(self) -> Run:
        """Return the run as the control socket tells it."""
        running = self.started_at is not None
        elapsed = self.clock.monotonic() - self.started_monotonic if running else 0.0
        rate = self.done_bytes / elapsed if elapsed > 0 and self.result is None else 0.0
        left = max(0, self.expected_bytes - self.done_bytes)
        ended = self.ended_at
        message: Run = {
            "schema": SCHEMA,
            "id": self.run_id,
            "kind": self.kind,
            "volume": self.volume,
            "target": self.target,
            "point": self.point,
            "to": self.to,
            "plan": self.plan,
            "tags": list(self.tags),
            "full": self.full,
            "state": "done" if self.result else "running" if running else "queued",
            "result": self.result,
            "phase": self.phase,
            "phases": dict(self.phases),
            "done_bytes": self.done_bytes,
            "expected_bytes": self.expected_bytes,
            "rate": rate,
            "eta": left / rate if rate else None,
            "queued": format_time(self.queued_at),
            "started": format_time(self.started_at) if self.started_at is not None else None,
            "ended": format_time(ended) if ended is not None else None,
            "changed_bytes": self.changed_bytes,
            "shipped_bytes": self.shipped_bytes,
            "stored_bytes": self.stored_bytes,
            "suspend": self.suspend_s,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "error": self.error,
        }
        if ended is not None and self.started_at is not None:
            message["duration"] = self.duration_s
        if self.who is not None:
            message["who"] = self.who
        message.update(self.more)
        return message


class RunBook:
    """The runs under way and the last ``RUNS_MAX`` that ended. Event loop only."""

    def __init__(
        self, clock: Clock, *, past: Sequence[Run] = (), ended: Callable[[Run], None] | None = None
    ) -> None:
        """Begin with runs of an earlier life, ``past``; ``ended`` hears of each that ends."""
        self._clock = clock
        self._ended = ended
        self._runs: dict[str, LiveRun] = {}
        self._past: dict[str, Run] = {run["id"]: run for run in past}

    def queue(self, kind: RunKind, volume: str) -> LiveRun:
        """Return a new run, not started yet.

        Raises:
            BusyError: too many others are not done. A cycle is never refused: a volume has one.
        """
        if kind != "cycle" and sum(r.result is None for r in self._runs.values()) >= RUNS_MAX:
            raise BusyError(
                f"{RUNS_MAX} runs are not done yet",
                effect="Nothing was started.",
                hint="Wait for some of them to end.",
            )
        run = LiveRun(f"r{secrets.token_hex(4)}", kind, volume, self._clock, self._clock.now())
        self._runs[run.run_id] = run
        self._forget_oldest()
        return run

    def start(self, run: LiveRun) -> None:
        """Note that the work begins."""
        run.started_at = self._clock.now()
        run.started_monotonic = self._clock.monotonic()

    def finish(self, run: LiveRun, result: RunResult, error: BlocksnapError | None = None) -> None:
        """Note how the run ended, and wake who waits for it."""
        run.error = problem(error) if error else None
        run.ended_at = self._clock.now()
        if run.started_at is not None:
            run.duration_s = self._clock.monotonic() - run.started_monotonic
        run.result = result
        run.phase = ""
        run.done.set()
        if self._ended is not None:
            self._past[run.run_id] = run.message()
            self._ended(self._past[run.run_id])
            while len(self._past) > PAST_MAX:
                del self._past[next(iter(self._past))]

    def past(self, run_id: str) -> Run | None:
        """Return a run that ended and is told from memory alone."""
        return None if run_id in self._runs else self._past.get(run_id)

    def messages(self, volume: str | None) -> list[Run]:
        """Return the runs of one volume or of all, also past ones, newest first."""
        past = [r for r in self._past.values() if r["id"] not in self._runs]
        found = [r for r in past if volume in (None, r["volume"])]
        return [*(r.message() for r in self.newest_first(volume)), *found[::-1]]

    def active(self, kind: RunKind, volume: str, target: str = "") -> LiveRun | None:
        """Return the run of this kind and volume, and target, that is queued or under way."""
        return next(
            (
                r
                for r in self._runs.values()
                if (r.kind, r.volume, r.result) == (kind, volume, None) and target in ("", r.target)
            ),
            None,
        )

    def last(self, volume: str, target: str = "") -> LiveRun | None:
        """Return the volume's cycle that ended last, of those to one target."""
        cycles = (
            r for r in self._runs.values()
            if (r.kind, r.volume) == ("cycle", volume) and target in ("", r.target)
        )  # fmt: skip
        ended = (r for r in cycles if r.result is not None)
        return max(ended, key=lambda r: r.ended_at or 0.0, default=None)

    def newest_first(self, volume: str | None) -> list[LiveRun]:
        """Return the runs of one volume or of all."""
        found = [r for r in self._runs.values() if volume in (None, r.volume)]
        return found[::-1]

    def get(self, run_id: str) -> LiveRun:
        """Return the run with this id.

        Raises:
            NotFoundError: no such run is remembered.
        """
        try:
            return self._runs[run_id]
        except KeyError:
            raise NotFoundError(
                f"there is no run {run_id!r} (the last ones are remembered)",
                effect="Nothing was done.",
                hint="List them with: blocksnapctl runs",
            ) from None

    def cancel(self, run_id: str, who: Who) -> LiveRun:
        """Ask the run to stop; one that is done already stays as it is.

        Raises:
            NotFoundError: no such run. BusyError: it can't be stopped yet.
        """
        run = self.get(run_id)
        if run.result is None:
            if run.cancel is None:
                raise BusyError(
                    f"run {run_id} has not begun",
                    effect="It was not stopped.",
                    hint="Ask again in a moment.",
                )
            run.warnings = [*run.warnings, f"cancelled by {who.get('login') or who.get('uid')}"]
            run.cancel()
        return run

    async def wait(self, run_id: str, timeout_s: float) -> LiveRun:
        """Return the run once it is done, or as it is after ``timeout_s``."""
        run = self.get(run_id)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.done.wait(), timeout_s)
        return run

    async def follow(self, run_id: str) -> AsyncGenerator[Run, None]:
        """Yield the run now, at each change, and at last when it is done."""
        run, told = self.get(run_id), None
        while True:
            message = run.message()
            if message != told:
                yield message
            told = message
            if message["state"] == "done":
                return
            await self.wait(run_id, FOLLOW_INTERVAL_S)

    def _forget_oldest(self) -> None:
        ended = [r.run_id for r in self._runs.values() if r.result is not None]
        for run_id in ended[: max(0, len(self._runs) - RUNS_MAX)]:
            del self._runs[run_id]


class RunAnswers:
    """The part of the port ``Operations`` that is about runs, out of a book."""

    def __init__(self, book: RunBook) -> None:
        self._book = book

    async def runs(self, volume: str | None) -> list[Run]:
        """Return the runs under way and the last ones, newest first."""
        return self._book.messages(volume)

    async def run(self, run_id: str) -> Run:
        """Return one run as it is now."""
        return self._book.past(run_id) or self._book.get(run_id).message()

    async def wait_run(self, run_id: str, timeout_s: float) -> Run:
        """Return the run once it is done, or as it is after ``timeout_s``."""
        past = self._book.past(run_id)
        return past or (await self._book.wait(run_id, timeout_s)).message()

    async def follow_run(self, run_id: str) -> AsyncGenerator[Run, None]:
        """Yield the run now and at each change, at last when done."""
        if (past := self._book.past(run_id)) is not None:
            yield past
            return
        async for run in self._book.follow(run_id):
            yield run

    async def cancel_run(self, run_id: str, who: Who) -> Run:
        """Ask a run to stop."""
        return self._book.past(run_id) or self._book.cancel(run_id, who).message()
