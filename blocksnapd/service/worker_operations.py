"""What may be asked of a private worker: all that takes a repository and the key to read it.

A worker is started by the command line client, with the caller's own rights and the caller's key,
and ends with it. It needs no configuration, no daemon and nothing of the protected host.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

from blocksnapd import __version__
from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.control.selectors import resolve_any
from blocksnapd.errors import (
    BlocksnapError,
    CancelledRunError,
    ChecksumError,
    FormatError,
    KeyMissingError,
    NotFoundError,
    StoreError,
    UsageError,
)
from blocksnapd.restore.full import restore_full
from blocksnapd.restore.target import examine, open_target
from blocksnapd.service.catalogue import Marks, point_message, with_suspects
from blocksnapd.service.exporting import Exporting
from blocksnapd.service.prune_answers import PruneAnswers
from blocksnapd.service.pruning import Place
from blocksnapd.service.runs import RunAnswers
from blocksnapd.service.verifying import Verifying
from blocksnapd.store.names import is_point_name, parse_point_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from blocksnapd.control.messages import (
        Event,
        Point,
        RunRequest,
        Started,
        Status,
        VolumeStatus,
        Who,
    )
    from blocksnapd.maintain.prune import Ledger, Pruner
    from blocksnapd.model import RestorePoint
    from blocksnapd.ports import Clock, PointImage
    from blocksnapd.restore.progress import Progress
    from blocksnapd.service.pruning import Pruning
    from blocksnapd.service.runs import LiveRun, RunBook
    from blocksnapd.service.verifying import RunsOf
    from blocksnapd.store.names import PointName
    from blocksnapd.store.repository import Repository


log = logging.getLogger(__name__)

_VERIFY_HINT = "What else is damaged tells: blocksnapctl --repo URL verify"


class WorkerOperations(RunAnswers, PruneAnswers):
    """The port ``Operations`` over a bare repository. Event loop only."""

    def __init__(
        self,
        repository: Repository,
        directory: str,
        book: RunBook,
        clock: Clock,
        *,
        pruner: Pruner,
        pruning: Pruning,
        verify_runs: RunsOf,
    ) -> None:
        self._repository = repository
        self._verify_runs = verify_runs
        self._directory = directory
        RunAnswers.__init__(self, book)
        PruneAnswers.__init__(self, pruning, clock)
        self._pruner = pruner
        self._marks: dict[str, Marks] = {}
        self._clock = clock
        self._started = clock.now()
        self._points: dict[str, RestorePoint] = {}
        self._unreadable: dict[str, str] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read what the repository holds.

        Raises:
            StoreError, RepositoryFormatError, ChecksumError: it can't be read.
        """
        self._points = await asyncio.to_thread(self._read_points)
        self._marks = await asyncio.to_thread(self._read_marks)

    def _read_points(self) -> dict[str, RestorePoint]:
        found = {}
        for volume_id in self._repository.volumes():
            for check in self._repository.history(volume_id):
                # A damaged point must not hide the whole ones.
                try:
                    point = self._repository.load_point(check.name)
                except KeyMissingError:
                    raise
                except (FormatError, StoreError) as error:
                    self._unreadable[check.name] = error.sentences()
                else:
                    found[point.facts.point_id] = point
        for problem in self._unreadable.values():
            log.warning("%s", problem)
        return found

    def _read_marks(self) -> dict[str, Marks]:
        found = {}
        for volume_id in self._repository.volumes():
            try:
                ledger = self._pruner.look(volume_id)
            except (FormatError, StoreError) as error:
                log.warning("What is held and forgotten is not known: %s", error.sentences())
            else:
                found[volume_id] = Marks(ledger, self._pruner.now_us())
        return found

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
            "targets": [{"name": "repository", "url": self._directory, "up": True}],
            "volumes": [],
        }

    async def volume(self, name: str) -> VolumeStatus:
        """Refuse: a worker protects no volume."""
        raise NotFoundError(
            f"{name}: a repository has points of volumes, not the volumes",
            effect="Nothing was done.",
            hint="List what it has with: blocksnapctl --repo URL points",
        )

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the points of one volume or of all, oldest first per volume."""
        by_volume: dict[str, list[Point]] = {}
        for point in self._points.values():
            message = point_message(point, self._directory)
            by_volume.setdefault(point.facts.volume_id, []).append(message)
        messages: list[Point] = []
        for volume_id, found in by_volume.items():
            found, marks = with_suspects(found), self._marks.get(volume_id)
            messages += marks.marked(found) if marks else found
        messages = [m for m in messages if with_forgotten or "forgotten" not in m]
        return [m for m in messages if volume in (None, m["volume"])]

    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names; its note tells newer ones left out."""
        try:
            every = await self.points(None, with_forgotten=True)
            kept = [p for p in every if "forgotten" not in p]
            found = resolve_any(selector, kept, [p for p in every if "forgotten" in p])
        except NotFoundError as error:
            raise self._damaged_or(error, selector) from error
        left_out = self._damaged_after(self._points[found["id"]])
        if not left_out or found["id"].startswith(selector):
            return found
        said = f"Left out, because they are damaged: {', '.join(left_out)}."
        return {**found, "note": f"{found.get('note', '')} {said}".strip()}

    def _damaged_or(self, error: NotFoundError, selector: str) -> BlocksnapError:
        """Return ``error``, or another one if a damaged point may be what was looked for."""
        is_id = "@" not in selector and not selector.startswith("latest:")
        ids = [name.point_id for name in self._damaged_points()]
        found = [i for i in ids if not is_id or i.startswith(selector)]
        if not found:
            return error
        return ChecksumError(
            f"{error.message}; but damaged points cannot be read: {', '.join(found)}",
            effect="They can't be restored; every other point can.",
            hint="List the others with: blocksnapctl --repo URL points. What is damaged in these "
            "tells: blocksnapctl --repo URL verify",
        )

    def _damaged_points(self) -> list[PointName]:
        return [parse_point_name(n) for n in self._unreadable if is_point_name(n)]

    def _damaged_after(self, point: RestorePoint) -> list[str]:
        """Return the ids of damaged points between ``point`` and the next whole one."""
        volume_id = point.facts.volume_id
        whole = [p.seq for p in self._points.values() if p.facts.volume_id == volume_id]
        end = min((seq for seq in whole if seq > point.seq), default=None)
        return [
            n.point_id
            for n in self._damaged_points()
            if n.volume_id == volume_id and point.seq < n.seq and (end is None or n.seq < end)
        ]

    async def place_of(self, volume: str) -> Place:
        """Return where the points of a volume, by its name or its id in the repository, are."""
        ids = {p.facts.volume_id: p.facts.volume_name for p in self._points.values()}
        found = [i for i, name in ids.items() if volume in (name, i)]
        if len(found) != 1:
            raise NotFoundError(
                f"there is no volume {volume!r} in {self._directory}" if not found
                else f"several volumes were called {volume!r}",
                effect="Nothing was done.",
                hint="It has " + (", ".join(f"{name} ({i})" for i, name in ids.items()) or "none"),
            )  # fmt: skip

        def note(ledger: Ledger) -> None:
            self._marks[found[0]] = Marks(ledger, self._now_us())

        return Place(volume, found[0], self._directory, self._pruner, None, note)

    async def start_run(self, request: RunRequest, who: Who) -> Started:
        """Start a restore, a verification, a prune or an export."""
        kind = request.get("kind")
        if kind == "prune":
            return await self.start_prune(request, who)
        if kind == "restore":
            point = await self.point(request.get("point", ""))
            if not request.get("to"):
                raise UsageError(
                    "no target was named", effect="Nothing was written.",
                    hint="Say where to: --to PATH",
                )  # fmt: skip
            run = self._queue(request, point["volume"], who)
            run.point, run.to = point["id"], request["to"]
            self._begin(run, lambda cancelled: self._restore(run, request, cancelled))
        elif kind == "verify":
            verify = await self._verification(request)
            run = self._queue(request, request.get("volume", ""), who)
            self._begin(run, lambda cancelled: verify(run, cancelled))
        elif kind == "export":
            exporting = await Exporting.prepare(request, self, self._open_image)
            run = self._queue(request, exporting.volume, who)
            self._begin_task(run, lambda: exporting.serve(run), exporting.end)
        else:
            raise UsageError(
                f"a worker can't do a run of kind {kind!r}", effect="Nothing was started.",
                hint="Ask the daemon that protects the volume.",
            )  # fmt: skip
        return {"schema": SCHEMA, "id": run.run_id, "joined": False}

    async def _verification(
        self, request: RunRequest
    ) -> Callable[[LiveRun, Callable[[], bool]], None]:
        """Return what verifies the point, the volume or everything that ``request`` names."""

        def verifying(run: LiveRun, cancelled: Callable[[], bool]) -> Verifying:
            return Verifying(self._repository, self._verify_runs, run, cancelled)

        if request.get("point"):
            name = self._points[(await self.point(request["point"]))["id"]].name
            return lambda run, cancelled: verifying(run, cancelled).point(name)
        volume_ids, share = self._volumes_to_verify(request.get("volume")), request.get("share", 1)
        now_us = round(self._clock.now() * 1_000_000)
        return lambda run, cancelled: verifying(run, cancelled).volumes(
            volume_ids, share=share, now_us=now_us
        )

    def _volumes_to_verify(self, volume: str | None) -> list[str]:
        readable = {p.facts.volume_id: p.facts.volume_name for p in self._points.values()}
        found = {i for i, name in readable.items() if volume in (None, "", name)}
        # Of whichever volume: nothing in a point that cannot be read can be believed.
        strange = {name.split("/")[1] for name in self._unreadable}
        found |= {i for i in strange if not volume or i not in readable}
        if not found:
            raise NotFoundError(
                f"there is no point of {volume or 'any volume'} in {self._directory}",
                effect="Nothing was read.",
                hint="List what there is with: blocksnapctl --repo URL points",
            )
        return sorted(found)

    def _queue(self, request: RunRequest, volume: str, who: Who) -> LiveRun:
        run = self._book.queue(request["kind"], volume)
        run.who = who
        return run

    def _begin(self, run: LiveRun, work: Callable[[Callable[[], bool]], None]) -> None:
        stop = threading.Event()
        self._begin_task(run, lambda: asyncio.to_thread(work, stop.is_set), stop.set)

    def _begin_task(
        self, run: LiveRun, work: Callable[[], Awaitable[None]], cancel: Callable[[], None]
    ) -> None:
        run.cancel = cancel
        task = asyncio.create_task(self._perform(run, work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _perform(self, run: LiveRun, work: Callable[[], Awaitable[None]]) -> None:
        self._book.start(run)
        try:
            await work()
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

    def _open_image(self, point_id: str) -> PointImage:
        return self._repository.open_image(self._points[point_id])

    def _restore(self, run: LiveRun, request: RunRequest, cancelled: Callable[[], bool]) -> None:
        def progress(now: Progress) -> None:
            run.phase, run.done_bytes, run.expected_bytes = now.phase, now.done, now.total

        image = self._repository.open_image(self._points[run.point])
        try:
            plan = examine(
                run.to,
                image_size=image.size,
                data_size=image.data_size(),
                overwrite=request.get("overwrite", False),
                keep_out=[self._directory],
            )
            run.warnings = list(plan.notes)
            report = restore_full(image, open_target(plan), progress=progress, cancelled=cancelled)
        finally:
            image.close()
        run.to = report.path
        run.phases = {"write": report.write_s, "verify": report.verify_s}
        run.changed_bytes = report.written_bytes

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

    async def ready(self) -> bool:
        """Say that it answers."""
        return True
