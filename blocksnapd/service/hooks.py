"""A volume's hooks: when each runs, what its end means for the run, and what is never left held.

    before-snapshot hooks → the snapshot → after-snapshot hooks → the run goes on
    any run that failed   → on-failure hooks

A hook marked ``always`` lets go what a hook before the snapshot holds. So that an application is
never left held, what must run is on the disk before the first hook does (``hook_journal``), and
stays there until it has ended well: it is tried again at the start of the daemon and of each run.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from blocksnapd.cycle.hook_journal import Debt
from blocksnapd.cycle.hook_text import Order
from blocksnapd.errors import HookError, HookSkipError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol, TypeAlias

    from blocksnapd.config import Hook, Volume
    from blocksnapd.cycle.hook_journal import HookJournal
    from blocksnapd.cycle.hook_text import End
    from blocksnapd.errors import BlocksnapError
    from blocksnapd.metrics import Metrics
    from blocksnapd.model import Taken
    from blocksnapd.pipeline import Hooks
    from blocksnapd.service.reporting import CycleReporter, Say
    from blocksnapd.service.runs import LiveRun

    Tell: TypeAlias = Callable[[str, str], None]

    class TaskHooks(Protocol):
        """The hooks as the task of a volume, or of one of its targets, knows them."""

        async def settle(self) -> None:
            """Run what is owed since a run that did not get so far; never raises."""

        def of(self, run: LiveRun, reporter: CycleReporter) -> Hooks:
            """Return the hooks as one cycle sees them."""

        async def failed(self, run: LiveRun, error: BlocksnapError) -> None:
            """Run what is for a run that failed."""

    class Runner(Protocol):
        """Runs one hook; ``cycle.hook_runner`` has the real one."""

        async def run(self, order: Order, facts: Mapping[str, str]) -> End:
            """Run it to its end or its timeout; never raises."""


log = logging.getLogger(__name__)

APPLICATION = "application"
_NO_POINT = "No point was made; changes go on being tracked from the last one."


class VolumeHooks:
    """The hooks of one volume in the daemon. Event loop only; one run at a time."""

    def __init__(
        self, settings: Volume, runner: Runner, journal: HookJournal, metrics: Metrics, say: Say
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._journal = journal
        self._metrics = metrics
        self._say = say
        self._debt: Debt | None = None
        self._is_read = False

    async def settle(self) -> None:
        """Run what is owed since a run, or a daemon, that did not get so far; never raises."""
        if not self._is_read:
            await self._read()
        if self._debt is None:
            return
        names = ", ".join(order.name for order in self._debt.orders)
        self._tell("hook-owed", f"{self._settings.name}: running what was left owed: {names}")
        facts = {**self._debt.facts, "RESULT": "unknown"}
        await self.paid([o for o in self._debt.orders if (await self.run(o, facts)).is_well])

    def of(self, run: LiveRun, reporter: CycleReporter) -> CycleHooks:
        """Return the hooks as one cycle sees them."""
        return CycleHooks(self, run, reporter)

    async def failed(self, run: LiveRun, error: BlocksnapError) -> None:
        """Run the on-failure hooks."""
        facts = {**self.facts(run), "CODE": error.code, "MESSAGE": error.message}
        for hook in self.at("on-failure"):
            await self.run(order_of(hook), facts)

    async def owe(self, facts: dict[str, str]) -> None:
        """Note on the disk what must run whatever happens from here on.

        Raises:
            HookError: the disk failed; nothing was held yet, and must not be.
        """
        orders = [order_of(hook) for hook in self.at("after-snapshot") if hook.always]
        if not orders:
            return
        still = self._debt.orders if self._debt else ()
        debt = Debt(facts, tuple(dict.fromkeys([*still, *orders])))
        try:
            await asyncio.to_thread(self._journal.write, debt)
        except OSError as error:
            raise HookError(
                f"{self._settings.name}: what its hooks would hold cannot be noted: {error}",
                effect=_NO_POINT,
                hint="Give the disk of the state directory room, or repair it.",
            ) from error
        self._debt = debt

    async def paid(self, well: list[Order]) -> None:
        """Note that these ended well; the others stay owed."""
        if self._debt is None:
            return
        left = tuple(order for order in self._debt.orders if order not in well)
        self._debt = Debt(self._debt.facts, left) if left else None
        try:
            if self._debt is None:
                await asyncio.to_thread(self._journal.clear)
            else:
                await asyncio.to_thread(self._journal.write, self._debt)
        except OSError as error:  # they run once more than needed, which must do no harm
            log.warning("%s: the record of hooks: %s", self._settings.name, error)

    async def run(self, order: Order, facts: Mapping[str, str], tell: Tell | None = None) -> End:
        """Run one hook; tell of a failure."""
        end = await self._runner.run(order, facts)
        is_failure = not end.is_well and not end.is_skip
        self._metrics.hook(self._settings.name, order.name, end.duration_s, failed=is_failure)
        if end.said:
            log.info("%s: %s: %s", self._settings.name, order.name, end.said)
        if is_failure:
            (tell or self._tell)("hook-failed", f"{self._settings.name}: {end.sentence(order)}")
        return end

    def at(self, moment: str) -> list[Hook]:
        """Return the hooks of one moment, in the order of the configuration."""
        return [hook for hook in self._settings.hooks if hook.at == moment]

    def facts(self, run: LiveRun) -> dict[str, str]:
        """Return what every hook of a run is told."""
        return {
            "VOLUME": self._settings.name, "DEVICE": self._settings.device,
            "TARGET": run.target or self._settings.target, "RUN": run.run_id,
        }  # fmt: skip

    async def _read(self) -> None:
        self._is_read = True
        try:
            self._debt = await asyncio.to_thread(self._journal.read)
        except (StateError, OSError) as error:
            said = error.sentences() if isinstance(error, StateError) else str(error)
            self._tell("hook-owed", f"{self._settings.name}: {said}")

    def _tell(self, kind: str, message: str) -> None:
        self._say(kind, message, severity="warning", volume=self._settings.name, data={})


class CycleHooks:
    """The ``Hooks`` of the pipeline, for one cycle."""

    def __init__(self, hooks: VolumeHooks, run: LiveRun, reporter: CycleReporter) -> None:
        self._hooks = hooks
        self._run = run
        self._reporter = reporter
        self._is_consistent = False

    async def before(self, point_id: str) -> None:
        """Run the hooks before a snapshot.

        Raises:
            HookError, HookSkipError: no snapshot shall be taken.
        """
        hooks = self._hooks.at("before-snapshot")
        self._is_consistent = bool(hooks)
        await self._hooks.owe(self._facts(point_id))
        for hook in hooks:
            end = await self._execute(hook, self._facts(point_id))
            error = self._verdict(hook, end)
            if error is not None:
                raise error

    async def after(self, point_id: str, taken: Taken | None) -> str:
        """Run the hooks after a snapshot; without one only those that always run.

        Returns:
            What the hooks make the point's consistency: ``application`` if there are hooks
            before the snapshot, and all hooks ended well; else nothing.

        Raises:
            HookError, HookSkipError: no point shall be made of the snapshot.
        """
        facts = {**self._facts(point_id), "RESULT": "taken" if taken else "none"}
        if taken is not None:
            facts["SUSPEND_SECONDS"] = f"{taken.suspend_s:.6f}"
        hooks = [h for h in self._hooks.at("after-snapshot") if taken is not None or h.always]
        ends = [(hook, await self._execute(hook, facts)) for hook in hooks]
        await self._hooks.paid([order_of(hook) for hook, end in ends if end.is_well])
        errors = [error for hook, end in ends if (error := self._verdict(hook, end))]
        if errors and taken is not None:
            raise errors[0]
        return APPLICATION if self._is_consistent and taken is not None else ""

    async def _execute(self, hook: Hook, facts: dict[str, str]) -> End:
        end = await self._hooks.run(order_of(hook), facts, self._reporter.event)
        self._reporter.phase("hook", end.duration_s)
        self._is_consistent &= end.is_well
        return end

    def _verdict(self, hook: Hook, end: End) -> BlocksnapError | None:
        """Return what the run has to end with for this end of a hook, if it has to."""
        order = order_of(hook)
        if end.is_well or (hook.on_error == "continue" and not end.is_skip):
            return None
        if end.is_skip or hook.on_error == "skip-run":
            return HookSkipError(
                f"{self._run.volume}: the hook {order.name} skipped this run.", effect=_NO_POINT,
                hint="The next one comes in its time.",
            )  # fmt: skip
        return HookError(
            f"{self._run.volume}: {end.sentence(order)}", effect=_NO_POINT,
            hint="Look at what it says. With on_error = 'continue' a point is made all the same, "
            "as after a power cut.",
        )  # fmt: skip

    def _facts(self, point_id: str) -> dict[str, str]:
        return {**self._hooks.facts(self._run), "POINT": point_id}


def order_of(hook: Hook) -> Order:
    """Return a configured hook as what runs."""
    return Order(hook.name, hook.at, hook.run, hook.user, hook.timeout_s)
