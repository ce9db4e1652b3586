"""What may be asked of a private worker: all that takes a repository and the key to read it.

A worker is started by the command line client, with the caller's own rights and the caller's key,
and ends with it. It needs no configuration, no daemon and nothing of the protected host.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from blocksnapd import __version__
from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.errors import BlocksnapError, CancelledRunError, NotFoundError, UsageError
from blocksnapd.service.drill_answers import NoDrills
from blocksnapd.service.drilling import drilling
from blocksnapd.service.files import copying, listing
from blocksnapd.service.in_place import in_place
from blocksnapd.service.map_answers import MapAnswers
from blocksnapd.service.part_export import exporting_part
from blocksnapd.service.prune_answers import PruneAnswers
from blocksnapd.service.restoring import restoring
from blocksnapd.service.runs import RunAnswers
from blocksnapd.service.verifying import verifying
from blocksnapd.service.viewing import viewing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from blocksnapd.control.documents import ConfigTold, Reloaded
    from blocksnapd.control.messages import (
        Event,
        FilesQuery,
        Point,
        RunKind,
        RunRequest,
        Started,
        Status,
        VolumeStatus,
        Who,
    )
    from blocksnapd.control.pause_messages import (
        EndedViews,
        InPlaceRequest,
        Paused,
        PauseRequest,
        ResumeRequest,
    )
    from blocksnapd.ports import Clock
    from blocksnapd.service.jobs import Job
    from blocksnapd.service.pruning import Place, Pruning
    from blocksnapd.service.runs import LiveRun, RunBook
    from blocksnapd.service.verifying import RunsOf
    from blocksnapd.service.worker_points import WorkerPoints

log = logging.getLogger(__name__)

IDLE_S: Final = 10.0  # long enough to ask how the last run ended
_VERIFY_HINT = "What else is damaged tells: blocksnapctl --repo URL verify"


class WorkerOperations(RunAnswers, PruneAnswers, NoDrills, MapAnswers):
    """The port ``Operations`` over a bare repository. Event loop only."""

    def __init__(
        self,
        points: WorkerPoints,
        book: RunBook,
        clock: Clock,
        *,
        pruning: Pruning,
        verify_runs: RunsOf,
    ) -> None:
        self._points = points
        RunAnswers.__init__(self, book)
        PruneAnswers.__init__(self, pruning, clock)
        MapAnswers.__init__(self)
        self._clock = clock
        self._started = clock.now()
        self._working: set[asyncio.Task[None]] = set()
        self._jobs: Mapping[RunKind, Callable[[RunRequest], Awaitable[Job]]] = {
            "restore": lambda request: restoring(request, points),
            "verify": lambda request: verifying(request, points, verify_runs, clock.now()),
            "copy": lambda request: copying(request, points),
            "drill": lambda request: drilling(request, points, points.url),
            "export": lambda request: exporting_part(request, points),
            "in-place": lambda request: in_place(request, points),
            "view": lambda request: viewing(request, points),
        }

    async def status(self) -> Status:
        """Return what a worker is: a repository without volumes to protect."""
        now = self._clock.now()
        return {
            "schema": SCHEMA,
            "version": __version__,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "now": format_time(now),
            "started": format_time(self._started),
            "uptime": now - self._started,
            "targets": [{"name": "repository", "url": self._points.url, "up": True}],
            "volumes": [],
        }

    async def volume(self, name: str) -> VolumeStatus:
        """Refuse: a worker protects no volume."""
        raise _no_volume(name)

    async def pause(self, volume: str, request: PauseRequest, who: Who) -> VolumeStatus:  # noqa: ARG002
        """Refuse: a worker protects no volume."""
        raise _no_volume(volume)

    async def resume(self, volume: str, request: ResumeRequest, who: Who) -> VolumeStatus:  # noqa: ARG002
        """Refuse: a worker protects no volume."""
        raise _no_volume(volume)

    async def in_place(self, volume: str, request: InPlaceRequest, who: Who) -> Paused:  # noqa: ARG002
        """Refuse: a worker protects no volume."""
        raise _no_volume(volume)

    async def end_views(self, volume: str, who: Who) -> EndedViews:  # noqa: ARG002
        """Refuse: a worker protects no volume."""
        raise _no_volume(volume)

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the points of one volume or of all, oldest first per volume."""
        return await self._points.points(volume, with_forgotten=with_forgotten)

    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names; its note tells newer ones left out."""
        return await self._points.point(selector)

    def files(self, selector: str, query: FilesQuery) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is at a path of a point."""
        return listing(self._points, selector, query)

    async def place_of(self, volume: str, target: str = "") -> Place:  # noqa: ARG002 - it has one
        """Return where the points of a volume, by its name or its id in the repository, are."""
        return await self._points.place_of(volume)

    def note(self, text: str, who: Who, *, volume: str) -> None:  # noqa: ARG002 - part of the port
        """Log what was asked for: a worker has one user, and no event log."""
        log.info("%s", text)

    async def config(self) -> ConfigTold:
        """Refuse: a worker has none."""
        raise NotFoundError("a worker has no configuration", effect="Nothing was done.")

    async def reload(self) -> Reloaded:
        """Refuse: a worker has no configuration."""
        raise NotFoundError("a worker has no configuration", effect="Nothing was done.")

    async def start_run(self, request: RunRequest, who: Who) -> Started:
        """Start what ``request`` asks for."""
        kind = request["kind"]
        if kind == "prune":
            return await self.start_prune(request, who)
        if kind not in self._jobs:
            raise UsageError(
                f"a worker can't do a run of kind {kind!r}", effect="Nothing was started.",
                hint="Ask the daemon that protects the volume.",
            )  # fmt: skip
        job = await self._jobs[kind](request)
        run = self._book.queue(kind, job.volume)
        run.who, run.cancel = who, job.cancel
        task = asyncio.create_task(self._perform(run, job.work(run)))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return {"schema": SCHEMA, "id": run.run_id, "joined": False}

    async def _perform(self, run: LiveRun, work: Awaitable[None]) -> None:
        self._book.start(run)
        try:
            await work
        except CancelledRunError as error:
            self._book.finish(run, "cancelled", error)
        except BlocksnapError as error:
            error.effect = error.effect or "The repository is untouched."
            error.hint = error.hint or _VERIFY_HINT
            self._book.finish(run, "failed", error)
        except Exception as error:  # told to whoever waits, never swallowed
            self._book.finish(
                run, "failed", BlocksnapError(f"{type(error).__name__}: {error}",
                effect="The repository is untouched; what was written is no whole image.",
                hint="This is a mistake in blocksnap: please report it."),
            )  # fmt: skip
            raise
        else:
            self._book.finish(run, "warning" if run.warnings else "success")

    async def events(self, since: int, *, follow: bool) -> AsyncGenerator[Event, None]:  # noqa: ARG002
        """Yield nothing: a worker lives too short for a log."""
        return
        yield

    async def close(self) -> None:
        """Stop what is under way and wait for its end."""
        for run in self._book.newest_first(None):
            if run.result is None and run.cancel is not None:
                run.cancel()
        if self._working:
            await asyncio.wait(self._working)
        await self._pruning.close()

    async def idle(self) -> None:
        """Return once no run was under way for ``IDLE_S``."""
        while True:
            if self._working:
                await asyncio.wait(self._working)
            await self._clock.sleep(IDLE_S)
            if not self._working:
                return

    async def ready(self) -> bool:
        """Say that it answers."""
        return True


def _no_volume(name: str) -> NotFoundError:
    return NotFoundError(
        f"{name}: a repository has points of volumes, not the volumes",
        effect="Nothing was done.",
        hint="List what it has with: blocksnapctl --repo URL points",
    )
