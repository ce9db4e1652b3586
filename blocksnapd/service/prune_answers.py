"""The part of the port ``Operations`` about plans, holds and forgotten points."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from blocksnapd.errors import KeyMissingError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.maintain.prune import Pruner
from blocksnapd.store.keys import load_maintenance
from blocksnapd.store.places import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocksnapd.config import Config, Target
    from blocksnapd.control.messages import HoldRequest, Plan, Point, RunRequest, Started, Who
    from blocksnapd.ports import Clock
    from blocksnapd.service.pruning import Place, Pruning


class PruneAnswers(ABC):
    """Asks ``Pruning``; a daemon and a worker each know which volumes there are."""

    def __init__(self, pruning: Pruning, clock: Clock) -> None:
        self._pruning, self._now = pruning, clock.now

    @abstractmethod
    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names."""

    @abstractmethod
    async def place_of(self, volume: str, target: str = "") -> Place:
        """Return where the points of ``volume`` are pruned, at a target if it has several.

        Raises:
            NotFoundError: there is no such volume. KeyMissingError: no key for that is at hand.
            StoreError: its repository is not open.
        """

    async def start_prune(self, request: RunRequest, who: Who) -> Started:
        """Start a run of kind ``prune``."""
        place = await self.place_of(request.get("volume", ""), request.get("target", ""))
        return self._pruning.start(place, request, who)

    async def plan(self, plan_id: str) -> Plan:
        """Return a plan."""
        return await self._pruning.plan(plan_id, self._now_us())

    async def apply_plan(self, plan_id: str, who: Who) -> Plan:  # noqa: ARG002 - the log has it
        """Do a plan, exactly it."""
        return await self._pruning.apply(plan_id, self._now_us(), self.place_of)

    async def hold(self, selector: str, request: HoldRequest, who: Who) -> Point:  # noqa: ARG002
        """Let nothing drop a point."""
        point, place = await self._found(selector)
        await self._pruning.hold(place, point["id"], request)
        return await self.point(point["id"])

    async def release(self, selector: str, who: Who) -> Point:  # noqa: ARG002 - the log has it
        """Leave a point to the policy again."""
        point, place = await self._found(selector)
        await self._pruning.release(place, point["id"])
        return await self.point(point["id"])

    async def undelete(self, selector: str, who: Who) -> Point:  # noqa: ARG002 - the log has it
        """Bring a forgotten point back."""
        point, place = await self._found(selector)
        await self._pruning.undelete(place, point["id"])
        return await self.point(point["id"])

    async def _found(self, selector: str) -> tuple[Point, Place]:
        point = await self.point(selector)
        return point, await self.place_of(point["volume"], point["target"])

    def _now_us(self) -> int:
        return round(self._now() * SECOND_US)


class Pruners:
    """A ``Pruner`` for each configured target, made when first asked for."""

    def __init__(self, targets: Mapping[str, Target], clock: Clock) -> None:
        self._targets, self._now = targets, clock.now
        self._known: dict[str, Pruner] = {}
        self._lock = threading.Lock()

    def has(self, target: str) -> bool:
        """Return whether there is a key for it in the configuration."""
        return target in self._targets and self._targets[target].maintenance_key is not None

    def reconfigure(self, config: Config) -> None:
        """Open the targets of ``config`` from now on."""
        with self._lock:
            same = {n for n, t in config.targets.items() if self._targets.get(n) == t}
            self._targets = config.targets
            self._known = {name: found for name, found in self._known.items() if name in same}

    async def of(self, target: str) -> Pruner:
        """Return the one of ``target``.

        Raises:
            KeyMissingError: the configuration names no key, or it cannot be read.
            StoreMissingError: the directory is not there.
        """
        return await asyncio.to_thread(self._of, target)

    def _of(self, target: str) -> Pruner:
        with self._lock:
            if target not in self._known:
                self._known[target] = self._open(target)
            return self._known[target]

    def _open(self, target: str) -> Pruner:
        settings = self._targets[target]
        if settings.maintenance_key is None:
            raise KeyMissingError(
                f"[target.{target}] has no maintenance_key: the daemon can't prune or read there",
                effect="Nothing was changed.",
                hint="Configure one, or use a key of your own: --repo URL --key FILE.",
            )
        key = load_maintenance(settings.maintenance_key)
        return Pruner(open_store(settings.url, settings.access), key, self._now)
