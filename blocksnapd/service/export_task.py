"""Exports that the configuration asks for: each in a process of its own, started again. Edge.

The daemon holds no key that reads: the export's process alone is told of one, and is the only one
that clients of the network speak to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from blocksnapd.runtime import process

if TYPE_CHECKING:
    from blocksnapd.config import Config, Export, Target
    from blocksnapd.ports import Clock
    from blocksnapd.service.reporting import Say

EXPORT_S_MAX: Final = 366 * 86_400.0
WAIT_S_FIRST: Final = 1.0
WAIT_S_MAX: Final = 300.0
STEADY_S: Final = 60.0  # one that served for so long had begun well


class ExportTask:
    """The configured exports of one daemon. Event loop only.

    Args:
        config: what is exported, and where.
        say: takes events.
        clock: waits between two tries.
    """

    def __init__(self, config: Config, *, say: Say, clock: Clock) -> None:
        self._config, self._say, self._clock = config, say, clock
        self._group: asyncio.TaskGroup | None = None
        self._kept: dict[str, asyncio.Task[None]] = {}

    def reconfigure(self, config: Config) -> None:
        """Work by another configuration from now on: what is as before is not disturbed."""
        before, self._config = self._config, config
        for name in before.exports.keys() | config.exports.keys():
            old, new = _parts(before, name), _parts(config, name)
            if old != new and (task := self._kept.pop(name, None)) is not None:
                task.cancel()
            if old != new and new is not None and self._group is not None:
                self._begin(name)

    async def run(self) -> None:
        """Keep every export going, for ever; cancelled, they end."""
        async with asyncio.TaskGroup() as self._group:
            for name in self._config.exports:
                self._begin(name)
            await asyncio.Event().wait()

    def _begin(self, name: str) -> None:
        assert self._group is not None
        self._kept[name] = self._group.create_task(self._keep(name), name=f"export {name}")

    async def _keep(self, name: str) -> None:
        wait_s = WAIT_S_FIRST
        while True:
            began = self._clock.monotonic()
            why = await self._serve(name)
            if self._clock.monotonic() - began >= STEADY_S:
                wait_s = WAIT_S_FIRST
            self._say(
                "export-failed",
                f"export {name} ended: {why} It is started again in {wait_s:.0f} s; points are "
                "made as before.",
                severity="error", volume="", data={"export": name},
            )  # fmt: skip
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, WAIT_S_MAX)

    async def _serve(self, name: str) -> str:
        """Run one to its end; return why that came."""
        argv = process.own_argv("--config", self._config.path, "export", name)
        try:
            ended = await process.run(argv, timeout_s=EXPORT_S_MAX)
        except OSError as error:
            return f"it could not be started: {error.strerror}."
        return f"it ended with status {ended.status}. {ended.said[-500:]}".strip()


def _parts(config: Config, name: str) -> tuple[Export, Target] | None:
    """Return all that an export is made of."""
    export = config.exports.get(name)
    return None if export is None else (export, config.targets[export.target])
