"""Has every target maintained, in processes of their own, and tells what they did. Edge.

``blocksnapd maintain`` merges, prunes, collects and verifies at the lowest priority. It may be
killed at any moment, so it ends with the daemon; what it holds in memory is not the daemon's.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from blocksnapd.errors import BlocksnapError
from blocksnapd.runtime import process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from blocksnapd.config import Config
    from blocksnapd.control.messages import Severity
    from blocksnapd.metrics import Metrics
    from blocksnapd.ports import Clock
    from blocksnapd.service.reporting import Say

log = logging.getLogger(__name__)

# The first round comes soon after the start: a daemon that is restarted often must still do it.
FIRST_AFTER_S = 60.0
ROUND_S_MAX = 12 * 3600.0
_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")


class MaintenanceTask:
    """The rounds of maintenance of one daemon. Event loop only.

    Args:
        config: which targets and volumes there are.
        refresh: learns anew what a target has; what a round forgot must not be offered any more.
        metrics: counts what happens.
        say: takes events.
        clock: tells when a round is due.
    """

    def __init__(
        self,
        config: Config,
        refresh: Callable[[str], Awaitable[None]],
        *,
        metrics: Metrics,
        say: Say,
        clock: Clock,
    ) -> None:
        self._config, self._refresh = config, refresh
        self._metrics, self._say, self._clock = metrics, say, clock

    def reconfigure(self, config: Config) -> None:
        """Maintain what ``config`` names from the next round on."""
        self._config = config

    async def run(self) -> None:
        """Maintain every target that has a key for it, again and again."""
        await self._clock.sleep(min(FIRST_AFTER_S, self._config.maintenance.every_s))
        while True:
            for name, target in tuple(self._config.targets.items()):
                if target.maintenance_key is not None:
                    await self.maintain(name)
            await self._clock.sleep(self._config.maintenance.every_s)

    async def maintain(self, target: str) -> None:
        """Maintain one target now; never raises what maintenance can meet."""
        argv = process.own_argv("--config", self._config.path, "maintain", "--json", target)
        try:
            ended = await process.run(argv, timeout_s=ROUND_S_MAX)
        except (BlocksnapError, OSError) as error:
            self._failed(target, str(error))
            return
        for line in read_lines(ended.stdout):
            self._tell(target, line)
        if ended.status:
            self._failed(target, f"it ended with status {ended.status}. {ended.said[-500:]}")
        else:
            self._metrics.maintained(target, now=self._clock.now())
        await self._refresh(target)

    def _tell(self, target: str, line: dict[str, Any]) -> None:
        kind, data = str(line.get("type", "")), line.get("data")
        data = data if isinstance(data, dict) else {}
        volume, severity = str(line.get("volume", "")), line.get("severity")
        self._count(kind, volume, target, data)
        if message := str(line.get("message", "")):
            self._say(
                kind, message, severity=severity if severity in _SEVERITIES else "info",
                volume=volume, data={"target": target, **data},
            )  # fmt: skip

    def _count(self, kind: str, volume: str, target: str, data: dict[str, Any]) -> None:
        def number(name: str) -> int:
            value = data.get(name)
            return value if isinstance(value, int) else 0

        metrics, now = self._metrics, self._clock.now()
        if kind == "state":
            metrics.merged(
                volume, target, unmerged=number("unmerged"), forgotten=number("forgotten")
            )
            metrics.points(volume, target, number("points"))
        elif kind in {"pruned", "prune-stopped"}:
            metrics.pruned(volume, target, number("points"))
            metrics.prune_ended(volume, target, is_blocked=kind == "prune-stopped", now=now)
        elif kind in {"verified", "damage-found"}:
            metrics.verified(
                volume, target, kind=str(data.get("level")), is_whole=kind == "verified",
                corrupt=number("damaged_blocks"), read=number("read_bytes"), now=now,
            )  # fmt: skip
        elif kind == "collected":
            metrics.collected(volume, target, number("bytes"))

    def _failed(self, target: str, why: str) -> None:
        self._say(
            "maintenance-failed",
            f"target {target} could not be maintained: {why} Points are made as before; old ones "
            "are not pruned until it works again.",
            severity="error", volume="", data={"target": target},
        )  # fmt: skip


def read_lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in ``text``, one a line; what is none is logged."""
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            yield found
        else:
            log.warning("maintenance said %r", line[:200])
