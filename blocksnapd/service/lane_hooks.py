"""A volume's hooks where several targets share its snapshots: once for each snapshot, in turn.

They run around a snapshot that is taken, not for a target that makes a point of one that another
target took. While they run no other target begins, or it would settle what is not owed yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocksnapd.cycle.claims import Held
    from blocksnapd.cycle.lane_source import LaneSource
    from blocksnapd.cycle.shared_snapshots import SharedSnapshots
    from blocksnapd.errors import BlocksnapError
    from blocksnapd.model import Taken
    from blocksnapd.pipeline import Hooks
    from blocksnapd.service.hooks import VolumeHooks
    from blocksnapd.service.reporting import CycleReporter
    from blocksnapd.service.runs import LiveRun


class LaneHooks:
    """The hooks of one target's task. Event loop only.

    ``source`` is the target's view of the volume once it was opened.
    """

    def __init__(self, hooks: VolumeHooks, shared: SharedSnapshots) -> None:
        self._hooks, self._shared = hooks, shared
        self.source: LaneSource | None = None

    async def settle(self) -> None:
        """Run what is owed since a run, or a daemon, that did not get so far; never raises."""
        async with self._shared.gate:
            await self._hooks.settle()

    def of(self, run: LiveRun, reporter: CycleReporter) -> LaneCycleHooks:
        """Return the hooks as one cycle sees them."""
        assert self.source is not None
        # Whoever asks for a point wants it to be of no earlier instant.
        newer_than = run.queued_at if run.who is not None else 0.0
        return LaneCycleHooks(self.source, self._hooks.of(run, reporter), newer_than)

    async def failed(self, run: LiveRun, error: BlocksnapError) -> None:
        """Run the on-failure hooks."""
        await self._hooks.failed(run, error)


class LaneCycleHooks:
    """The ``Hooks`` of the pipeline, for one cycle of one target."""

    def __init__(self, source: LaneSource, hooks: Hooks, newer_than: float) -> None:
        self._source, self._hooks, self._newer_than = source, hooks, newer_than
        self._held: Held | None = None
        self._is_inside = False

    async def before(self, point_id: str) -> None:
        """Begin the turn; run the hooks unless there is a snapshot to share.

        Raises:
            HookError, HookSkipError, BlocksnapError: no snapshot shall be taken.
        """
        self._held = await self._source.enter(self._newer_than)
        self._is_inside = True
        if self._held is None:
            await self._hooks.before(point_id)

    async def after(self, point_id: str, taken: Taken | None) -> str:
        """Run the hooks that follow, and end the turn; return what the point's consistency is.

        Raises:
            HookError, HookSkipError: no point shall be made of the snapshot.
        """
        if not self._is_inside:
            return ""
        consistency, is_fit = "", False
        try:
            if self._held is not None:
                return self._held.consistency
            consistency = await self._hooks.after(point_id, taken)
            is_fit = True
            return consistency
        finally:
            try:
                if self._held is None and taken is not None:
                    await self._source.note(point_id, consistency, is_fit=is_fit)
            finally:
                self._is_inside = False
                self._source.leave()
