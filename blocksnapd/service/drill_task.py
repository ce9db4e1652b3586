"""Drills that the configuration asks for: when they are due, and what is made of them. Edge.

Each runs in a process of its own at the lowest priority, with the key it is told of; the cycles of
the volume neither wait for it nor hear of it. When the last one was is in the evidence that is
kept, so that a daemon that is restarted often neither forgets drills nor repeats them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from blocksnapd.control.drill_messages import read_drill
from blocksnapd.control.messages import parse_time
from blocksnapd.errors import (
    BlocksnapError,
    CancelledRunError,
    HostError,
    KeyMissingError,
    NotFoundError,
)
from blocksnapd.runtime import process
from blocksnapd.service.drilling import failure, problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.config import Config
    from blocksnapd.control.drill_messages import Drill
    from blocksnapd.control.messages import Who
    from blocksnapd.metrics import Metrics
    from blocksnapd.ports import Clock
    from blocksnapd.service.drill_book import DrillBook
    from blocksnapd.service.reporting import Say
    from blocksnapd.service.runs import LiveRun, RunBook

FIRST_AFTER_S: Final = 300.0
LOOK_S: Final = 60.0
RETRY_S: Final = 6 * 3600.0  # after one that failed or did not even come to a result
DRILL_S_MAX: Final = 7 * 86_400.0  # each of its programs has a limit of its own


class DrillTask:
    """The drills of one daemon. Event loop only.

    Args:
        config: which volumes are drilled, and how.
        book: where evidence is kept.
        runs: where drills are shown while they run.
        has_point: whether a volume has a point yet.
        metrics: tells of the last drill of each volume.
        say: takes events.
        clock: tells when a drill is due.
    """

    def __init__(
        self, config: Config, book: DrillBook, runs: RunBook, has_point: Callable[[str], bool],
        *, metrics: Metrics, say: Say, clock: Clock,
    ) -> None:  # fmt: skip
        self._config, self._book, self._runs, self._has_point = config, book, runs, has_point
        self._metrics, self._say, self._clock = metrics, say, clock
        self._due: dict[str, float] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    def reconfigure(self, config: Config) -> None:
        """Drill what ``config`` asks for from now on."""
        self._config = config

    async def run(self) -> None:
        """Drill each volume when it is due, one after the other, for ever."""
        for drill in await asyncio.to_thread(self._book.drills):
            self._note(drill)
        await self._clock.sleep(FIRST_AFTER_S)
        while True:
            for name, volume in tuple(self._config.volumes.items()):
                is_due = self._clock.now() >= self._due.get(name, 0.0)
                if volume.drill is not None and is_due and self._has_point(name):
                    self._due[name] = self._clock.now() + RETRY_S
                    run, _ = self.start(name)
                    await run.done.wait()
            await self._clock.sleep(LOOK_S)

    def start(self, volume: str, point: str = "", who: Who | None = None) -> tuple[LiveRun, bool]:
        """Start a drill of a volume, or join the one under way; return it, and whether it was.

        Raises:
            NotFoundError: it is not configured. KeyMissingError: no key is configured for it.
        """
        self.check_known(volume)
        if self._config.volumes[volume].drill is None:
            raise KeyMissingError(
                f"the daemon holds no key for a drill of {volume}", effect="Nothing was drilled.",
                hint="Name the key: blocksnapctl drill VOLUME --key FILE; or configure drill.key.",
            )  # fmt: skip
        if (active := self._runs.active("drill", volume)) is not None:
            return active, True
        run = self._runs.queue("drill", volume)
        run.who = who
        task = asyncio.create_task(self._perform(run, point))

        def cancel() -> None:
            task.cancel()

        run.cancel = cancel
        self._working[run.run_id] = task
        task.add_done_callback(lambda _: self._working.pop(run.run_id))
        return run, False

    def check_known(self, volume: str) -> None:
        """Make sure that a volume is configured.

        Raises:
            NotFoundError: it is not.
        """
        if volume not in self._config.volumes:
            raise NotFoundError(
                f"no volume {volume!r} is configured", effect="Nothing was done.",
                hint="Configured are: " + (", ".join(self._config.volumes) or "none"),
            )  # fmt: skip

    async def keep(self, drill: Drill) -> None:
        """Keep the evidence of a drill, whoever made it, and tell of it.

        Raises:
            StateError: it could not be kept.
        """
        await asyncio.to_thread(self._book.keep, drill)
        self._note(drill)
        volume, said = drill["volume"], "; ".join(problems(drill))
        when = f"{drill['point']} of {drill['point_time']}"
        if drill["result"] == "failed":
            error = failure(drill)
            self._say(
                "drill-failed", error.sentences(), severity="critical", volume=volume,
                data={**drill},
            )  # fmt: skip
            return
        severity = "warning" if said else "info"
        self._say(
            "drilled", f"{when} can be used{': ' + said if said else ''}",
            severity="warning" if severity == "warning" else "info", volume=volume, data={**drill},
        )  # fmt: skip

    async def close(self) -> None:
        """End what is under way."""
        for task in self._working.values():
            task.cancel()
        if self._working:
            await asyncio.wait(list(self._working.values()))

    def _note(self, drill: Drill) -> None:
        settings = self._config.volumes.get(drill["volume"])
        if settings is None:
            return
        ended = parse_time(drill["ended"]).timestamp()
        is_good = drill["result"] != "failed"
        if settings.drill is not None:
            wait_s = settings.drill.every_s if is_good else min(settings.drill.every_s, RETRY_S)
            self._due[drill["volume"]] = ended + wait_s
        seconds = {step["name"]: step["seconds"] for step in drill["steps"]}
        self._metrics.drilled(
            drill["volume"], settings.target, seconds, is_good=is_good, now=ended
        )  # fmt: skip

    async def _perform(self, run: LiveRun, point: str) -> None:
        self._runs.start(run)
        run.phase = "drill"
        try:
            drill = await self._drill(run.volume, point)
            run.point, run.more = drill["point"], {"drill": {**drill}}
            run.phases = {step["name"]: step["seconds"] for step in drill["steps"]}
            run.warnings = problems(drill)
            await self.keep(drill)
            if drill["result"] == "failed":
                raise failure(drill)
        except asyncio.CancelledError:
            error = CancelledRunError("the drill was cancelled", effect="Nothing of it is left.")
            self._runs.finish(run, "cancelled", error)
        except BlocksnapError as error:
            if not run.more:
                self._say(
                    "drill-failed", f"the drill came to no result: {error.sentences()}",
                    severity="error", volume=run.volume, data={},
                )  # fmt: skip
            self._runs.finish(run, "failed", error)
        else:
            self._runs.finish(run, "warning" if run.warnings else "success")

    async def _drill(self, volume: str, point: str) -> Drill:
        argv = process.own_argv("--config", self._config.path, "drill", volume)
        argv += [point] if point else []
        try:
            ended = await process.run(argv, timeout_s=DRILL_S_MAX)
        except OSError as error:
            raise HostError(f"the drill could not be started: {error.strerror}") from error
        with contextlib.suppress(IndexError, BlocksnapError):
            return read_drill(ended.stdout.strip().splitlines()[-1])
        raise HostError(
            f"it ended with status {ended.status}: {ended.said[-500:]}",
            effect="Nothing is known of the points; they are untouched.",
            hint="Look with: blocksnapd drill VOLUME",
        )
