"""Prunes, holds and brings back for whoever asks, as runs; ``maintain/`` decides and does it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.control.messages import SCHEMA, parse_time
from blocksnapd.control.replies import as_known
from blocksnapd.errors import (
    BusyError,
    CancelledRunError,
    FormatError,
    NotFoundError,
    RefusedError,
    StoreError,
    UsageError,
)
from blocksnapd.keep_rules import SECOND_US, parse_rule
from blocksnapd.maintain.prune_plan import summary
from blocksnapd.maintain.retention import Policy
from blocksnapd.service.plans import KeptPlan
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from blocksnapd.config import Retention
    from blocksnapd.control.messages import HoldRequest, RunRequest, Severity, Started, Who
    from blocksnapd.control.messages import Plan as PlanMessage
    from blocksnapd.control.messages import Policy as PolicyMessage
    from blocksnapd.errors import BlocksnapError
    from blocksnapd.maintain.prune import Ledger, Pruner
    from blocksnapd.maintain.prune_plan import Plan
    from blocksnapd.metrics import Metrics
    from blocksnapd.service.plans import PlanBook
    from blocksnapd.service.reporting import Say
    from blocksnapd.service.runs import LiveRun, RunBook

_NOTHING = "Nothing was forgotten."


@dataclass(frozen=True, slots=True)
class Place:
    """A volume in a repository, and who is told of its new state (on the event loop)."""

    volume: str
    volume_id: str
    target: str
    pruner: Pruner
    policy: Policy | None
    note: Callable[[Ledger], None]


class Pruning:
    """Runs of kind ``prune`` and what else changes which points there are. Event loop only."""

    def __init__(
        self,
        plans: PlanBook,
        book: RunBook,
        *,
        say: Say | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._plans, self._book = plans, book
        self._say, self._metrics = say, metrics
        self._working: set[asyncio.Task[None]] = set()

    def start(self, place: Place, request: RunRequest, who: Who) -> Started:
        """Start a prune, or join the one of the same kind that is under way.

        Raises:
            RefusedError: nothing says what to keep. BusyError: a prune of another kind is at work.
            UsageError: a rule is none.
        """
        policy = policy_of(request["policy"]) if "policy" in request else place.policy
        if policy is None:
            raise RefusedError(
                f"nothing says which points of {place.volume} to keep", effect=_NOTHING,
                hint="Give it a retention in the configuration, or say --keep with --repo.",
            )  # fmt: skip
        is_dry = request.get("dry_run", False)
        active = self._book.active("prune", place.volume)
        if active is not None and active.dry_run != is_dry:
            raise BusyError(
                f"{place.volume} is being pruned, or what that would do is being worked out",
                effect=_NOTHING, hint=f"Wait for run {active.run_id}.",
            )  # fmt: skip
        run = active or self._queue(place, is_dry=is_dry)
        if active is None:
            run.who = who
            task = asyncio.create_task(self._perform(run, place, policy))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return {"schema": SCHEMA, "id": run.run_id, "joined": active is not None}

    async def look(self, place: Place) -> None:
        """Learn what others changed: another process, which prunes on schedule.

        Raises:
            FormatError, StoreError: it cannot be read.
        """
        await self._change(place, lambda: place.pruner.look(place.volume_id))

    async def plan(self, plan_id: str, now_us: int) -> PlanMessage:
        """Return a plan.

        Raises:
            NotFoundError: there is none of that id, or it expired.
        """
        return (await asyncio.to_thread(self._plans.get, plan_id, now_us=now_us)).message()

    async def apply(
        self, plan_id: str, now_us: int, place_of: Callable[[str, str], Awaitable[Place]]
    ) -> PlanMessage:
        """Do a plan, exactly it.

        Raises:
            NotFoundError: as ``plan``. RefusedError: something changed since it was made.
            Otherwise as ``place_of``, and as the repository does.
        """
        kept = await asyncio.to_thread(self._plans.get, plan_id, now_us=now_us)
        place = await place_of(kept.volume, kept.target)
        await self._change(place, lambda: place.pruner.apply(kept.plan))
        done = KeptPlan(kept.plan, kept.volume, kept.target, is_applied=True)
        await asyncio.to_thread(self._plans.keep, done, now_us=now_us)
        self._note_pruned(place, kept.plan)
        self._note_end(place, is_blocked=False)
        return done.message()

    async def hold(self, place: Place, point_id: str, request: HoldRequest) -> None:
        """Hold a point; raises as ``Pruner.hold``."""
        until, reason = request.get("until"), request.get("reason", "")
        until_us = round(parse_time(until).timestamp() * SECOND_US) if until else 0
        await self._change(
            place,
            lambda: place.pruner.hold(place.volume_id, point_id, until_us=until_us, reason=reason),
        )
        self._tell_of(place, "held", point_id)

    async def release(self, place: Place, point_id: str) -> None:
        """Release a point; raises as ``Pruner.release``."""
        await self._change(place, lambda: place.pruner.release(place.volume_id, point_id))
        self._tell_of(place, "released", point_id)

    async def undelete(self, place: Place, point_id: str) -> None:
        """Bring a point back; raises as ``Pruner.undelete``."""
        await self._change(place, lambda: place.pruner.undelete(place.volume_id, point_id))
        self._tell_of(place, "undeleted", point_id)

    async def close(self) -> None:
        """Stop what is under way and wait for its end."""
        for run in self._book.newest_first(None):
            if run.kind == "prune" and run.result is None and run.cancel is not None:
                run.cancel()
        if self._working:
            await asyncio.wait(self._working)

    async def _change(self, place: Place, work: Callable[[], Ledger]) -> None:
        place.note(await asyncio.to_thread(work))

    def _queue(self, place: Place, *, is_dry: bool) -> LiveRun:
        run = self._book.queue("prune", place.volume)
        run.target, run.dry_run = place.target, is_dry
        return run

    async def _perform(self, run: LiveRun, place: Place, policy: Policy) -> None:
        stop = threading.Event()
        run.cancel = stop.set
        self._book.start(run)
        try:
            plan, ledger = await asyncio.to_thread(self._work, run, place, policy, stop)
        except CancelledRunError as error:
            self._book.finish(run, "cancelled", error)
        except Exception as caught:  # told to whoever waits, and to the log when nobody does
            failure = as_known(caught, f"pruning {place.volume}")
            failure.effect = failure.effect or _NOTHING
            self._tell(place, "prune-failed", failure.sentences(), "error", run=run.run_id)
            self._book.finish(run, "failed", failure)
        else:
            self._finish(run, place, plan, ledger)

    def _finish(self, run: LiveRun, place: Place, plan: Plan, ledger: Ledger | None) -> None:
        if ledger is not None:
            place.note(ledger)
            self._note_pruned(place, plan)
        error: BlocksnapError | None = None
        if not run.dry_run:
            error = refusal(plan) if plan.guards else None
            self._note_end(place, is_blocked=error is not None)
        result = "failed" if error else "warning" if run.warnings else "success"
        self._book.finish(run, result, error)  # type: ignore[arg-type]

    def _work(
        self, run: LiveRun, place: Place, policy: Policy, stop: threading.Event
    ) -> tuple[Plan, Ledger | None]:
        """Plan, and do it unless it is only to be shown. In a thread."""
        pruner, ledger = place.pruner, None
        run.phase = "plan"
        plan = pruner.plan(place.volume_id, policy)
        if run.dry_run or plan.guards:  # somebody is going to read it
            plan = _measured(plan, run, pruner, stop)
        elif plan.forgotten:
            ledger = pruner.apply(plan)
        kept = KeptPlan(plan, place.volume, place.target, is_applied=ledger is not None)
        self._plans.keep(kept, now_us=pruner.now_us())
        run.plan, run.phase = plan.plan_id, ""
        run.reason = summary(plan)
        return plan, ledger

    def _note_pruned(self, place: Place, plan: Plan) -> None:
        self._tell(place, "pruned", f"{place.volume}: {summary(plan)}", plan=plan.plan_id)
        if self._metrics is not None:
            self._metrics.pruned(place.volume, place.target, len(plan.forgotten))

    def _note_end(self, place: Place, *, is_blocked: bool) -> None:
        if self._metrics is not None:
            now = place.pruner.now_us() / SECOND_US
            self._metrics.prune_ended(place.volume, place.target, is_blocked=is_blocked, now=now)

    def _tell_of(self, place: Place, deed: str, point_id: str) -> None:
        self._tell(place, deed, f"{place.volume}: {point_id} was {deed}", point=point_id)

    def _tell(
        self, place: Place, kind: str, text: str, severity: Severity = "info", **data: object
    ) -> None:
        if self._say is not None:
            self._say(kind, text, severity=severity, volume=place.volume, data=data)


def policy_of_settings(settings: Retention) -> Policy:
    """Return the policy that the configuration says."""
    return Policy(
        settings.keep, settings.keep_tags, settings.min_points, settings.max_delete_pct,
        round(settings.undelete_s * SECOND_US),
    )  # fmt: skip


def policy_of(message: PolicyMessage) -> Policy:
    """Return the policy that somebody asks with.

    Raises:
        UsageError: a rule is none.
    """
    try:
        rules = tuple(map(parse_rule, message["keep"]))
    except ValueError as error:
        raise UsageError(str(error), effect=_NOTHING) from error
    left_out = Policy(rules)
    undelete_s = message.get("undelete")
    return Policy(
        rules, tuple(message.get("keep_tags", ())),
        message.get("min_points", left_out.min_points),
        message.get("max_delete_pct", left_out.max_delete_pct),
        left_out.undelete_us if undelete_s is None else round(undelete_s * SECOND_US),
    )  # fmt: skip


def refusal(plan: Plan) -> RefusedError:
    """Return what guards say against doing ``plan`` without asking."""
    valid = format_duration((plan.expires_us - plan.created_us) / SECOND_US)
    return RefusedError(
        "; ".join(g.text for g in plan.guards),
        effect=_NOTHING,
        hint=f"To go on: blocksnapctl prune --apply {plan.plan_id} (expires in {valid})",
    )


def _measured(plan: Plan, run: LiveRun, pruner: Pruner, stop: threading.Event) -> Plan:
    def progress(done: int, total: int) -> None:
        run.phase, run.done_bytes, run.expected_bytes = "measure", done, total
        if stop.is_set():
            raise CancelledRunError("the prune was cancelled", effect=_NOTHING)

    try:
        return pruner.measured(plan, progress)
    except (FormatError, StoreError, NotFoundError) as error:
        run.warnings = [f"what it frees is not known: {error.sentences()}"]
        return plan
