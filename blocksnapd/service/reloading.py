"""A changed configuration, taken up while the daemon runs; no run under way is dropped.

A volume whose settings changed, or those of its target or COW space, gets a new task. The old one
sees the run under way through first; two tasks of one volume never work at the same time. What a
socket or a directory hangs on takes a restart, and is told.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from blocksnapd.config import load
from blocksnapd.config_view import differences, settled
from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import BlocksnapError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from blocksnapd.config import Config
    from blocksnapd.control.documents import ConfigTold, Reloaded
    from blocksnapd.metrics import Metrics
    from blocksnapd.ports import Clock
    from blocksnapd.service.reporting import Say
    from blocksnapd.service.volume_task import VolumeTask

log = logging.getLogger(__name__)

OPEN_S_MAX = 20.0
FIXED = ("daemon", "control", "metrics")  # of the configuration; they take a restart


class Reloading(Protocol):
    """Tells the configuration that holds, and takes a new one up."""

    def told(self) -> ConfigTold:
        """Return every setting that holds."""

    async def reload(self) -> Reloaded:
        """Read the files again and take up what is different.

        Raises:
            ConfigError: something in them is wrong; all goes on as before.
        """


class Configured(Protocol):
    """Whoever works by a configuration and takes another one in its stead."""

    def reconfigure(self, config: Config) -> None:
        """Work by ``config`` from now on."""


class Reloader:
    """The ``Reloading`` of the daemon. Event loop only.

    Args:
        config: the one that holds at start.
        tasks: the volumes' tasks, by label; changed here, and seen by whoever else has it.
        make: makes the tasks of one configured volume, one for each of its targets.
        spawn: starts a named piece of work that may end.
        others: who else works by the configuration.
        metrics: learns of new volumes and targets, and whether the reload succeeded.
        say: takes events.
        clock: tells when it was.
    """

    def __init__(
        self,
        config: Config,
        tasks: dict[str, VolumeTask],
        make: Callable[[Config, str], dict[str, VolumeTask]],
        spawn: Callable[[str, Coroutine[object, object, object]], asyncio.Task[None]],
        *,
        others: Sequence[Configured],
        metrics: Metrics,
        say: Say,
        clock: Clock,
    ) -> None:
        self.config = config
        self._tasks, self._make, self._spawn = tasks, make, spawn
        self._others, self._metrics, self._say, self._clock = others, metrics, say, clock
        self._loaded = clock.now()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._is_ending = False
        self._lock = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}

    def told(self) -> ConfigTold:
        """Return every setting that holds."""
        return {
            "schema": SCHEMA, "path": self.config.path, "loaded": format_time(self._loaded),
            "settings": settled(self.config),
        }  # fmt: skip

    def start(self) -> None:
        """Let every volume's task run."""
        for name in self._tasks:
            self._run(name)

    async def stop(self, timeout_s: float) -> list[str]:
        """End every task in good order; return the volumes that did not end in time."""
        self._is_ending = True
        for task in self._tasks.values():
            task.stop()
        running = {task: name for name, task in self._running.items()}
        if not running:
            return []
        _, late = await asyncio.wait(running, timeout=timeout_s)
        return [running[task] for task in late]

    async def reload(self) -> Reloaded:
        """Read the files again and take up what is different."""
        async with self._lock:
            try:
                read = await asyncio.to_thread(load, self.config.path)
            except BlocksnapError as error:
                self._metrics.config_read(is_good=False)
                self._say("config-refused", error.sentences(), severity="error", volume="", data={})
                raise
            return self._take(read)

    def _take(self, read: Config) -> Reloaded:
        old = self.config
        fixed = {key: getattr(old, key) for key in FIXED}
        restart = [line for line in differences(settled(old), settled(read)) if _is_fixed(line)]
        new = read.model_copy(update=fixed)
        changed = differences(settled(old), settled(new))
        names = [n for n in {**old.volumes, **new.volumes} if _parts(old, n) != _parts(new, n)]
        self.config, self._loaded = new, self._clock.now()
        self._metrics.configure(new)
        for other in self._others:
            other.reconfigure(new)
        at_work = {task.settings.name for task in self._tasks.values() if task.is_at_work}
        waiting = [n for n in names if n in at_work]
        for name in names:
            self._spawn(f"reconfigure {name}", self._replace(name))
        self._say(
            "config-reloaded", f"the configuration was reloaded: {len(changed)} differences",
            severity="info", volume="",
            data={"changed": changed, "waiting": waiting, "restart": restart},
        )  # fmt: skip
        return {"schema": SCHEMA, "changed": changed, "waiting": waiting, "restart": restart}

    async def _replace(self, name: str) -> None:
        """Put the tasks that the configuration asks for, if any, in the place of the old ones."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            old = {label: t for label, t in self._tasks.items() if t.settings.name == name}
            for task in old.values():
                task.retire()
            running = [r for label in old if (r := self._running.pop(label, None)) is not None]
            if running:
                await asyncio.wait(running)
            if name not in self.config.volumes:
                self._swap(old, {})
                self._metrics.configure(self.config)
            elif not self._is_ending:
                new = self._make(self.config, name)
                opening = [self._spawn(f"open {label}", task.open()) for label, task in new.items()]
                await asyncio.wait(opening, timeout=OPEN_S_MAX)  # so that status knows its points
                self._swap(old, new)

    def _swap(self, old: dict[str, VolumeTask], new: dict[str, VolumeTask]) -> None:
        for label in old.keys() - new.keys():
            del self._tasks[label]
        self._tasks.update(new)
        for label in new:
            self._run(label)

    def _run(self, label: str) -> None:
        if not self._is_ending:
            self._running[label] = self._spawn(f"volume {label}", self._tasks[label].run())


def _is_fixed(line: str) -> bool:
    return line[2:].split(".")[0] in FIXED


def _parts(config: Config, name: str) -> tuple[object, ...] | None:
    """Return everything a volume's task is made from; None: it is not configured."""
    volume = config.volumes.get(name)
    if volume is None:
        return None
    space = config.cow[volume.cow.space] if volume.cow else None
    return volume, [config.targets[target] for target in volume.targets], space
