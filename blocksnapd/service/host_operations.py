"""What the operator may ask of the daemon that protects volumes: the port ``Operations``."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from blocksnapd import __version__
from blocksnapd.control.messages import SCHEMA, format_time
from blocksnapd.control.selectors import resolve_any
from blocksnapd.errors import (
    BlocksnapError,
    KeyMissingError,
    NotFoundError,
    RefusedError,
    StoreError,
    UsageError,
)
from blocksnapd.service.catalogue import Marks
from blocksnapd.service.drill_answers import DrillAnswers
from blocksnapd.service.leasing import end_views, hear
from blocksnapd.service.map_answers import MapAnswers
from blocksnapd.service.prune_answers import PruneAnswers
from blocksnapd.service.pruning import Place, policy_of_settings
from blocksnapd.service.runs import RunAnswers
from blocksnapd.service.status import volume_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from blocksnapd.control.documents import ConfigTold, Reloaded
    from blocksnapd.control.events import EventLog
    from blocksnapd.control.messages import (
        Event,
        FilesQuery,
        Point,
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
    from blocksnapd.maintain.prune import Ledger
    from blocksnapd.ports import Clock
    from blocksnapd.service.drill_book import DrillBook
    from blocksnapd.service.drill_task import DrillTask
    from blocksnapd.service.prune_answers import Pruners
    from blocksnapd.service.pruning import Pruning
    from blocksnapd.service.reloading import Reloading
    from blocksnapd.service.runs import RunBook
    from blocksnapd.service.targets import TargetWatch
    from blocksnapd.service.volume_task import VolumeTask


log = logging.getLogger(__name__)


class HostOperations(RunAnswers, PruneAnswers, DrillAnswers, MapAnswers):
    """Answers from memory; the work is done by the volumes' tasks. Event loop only."""

    def __init__(
        self,
        tasks: dict[str, VolumeTask],
        targets: TargetWatch,
        book: RunBook,
        events: EventLog,
        clock: Clock,
        *,
        pruning: Pruning,
        pruners: Pruners,
        drills: DrillTask,
        drill_book: DrillBook,
    ) -> None:
        self._tasks = tasks
        self._targets = targets
        RunAnswers.__init__(self, book)
        PruneAnswers.__init__(self, pruning, clock)
        DrillAnswers.__init__(self, drills, drill_book)
        MapAnswers.__init__(self)
        self._pruners = pruners
        self.reloading: Reloading | None = None
        self._events = events
        self._clock = clock
        self._started = clock.now()
        self.is_ready = False

    async def status(self) -> Status:
        """Return everything about every volume."""
        now = self._clock.now()
        return {
            "schema": SCHEMA,
            "version": __version__,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "now": format_time(now),
            "started": format_time(self._started),
            "uptime": now - self._started,
            "targets": self._targets.messages(),
            "volumes": [self._volume_status(t) for t in self._tasks.values()],
        }

    async def volume(self, name: str) -> VolumeStatus:
        """Return one volume."""
        return self._volume_status(self._task(name))

    async def points(self, volume: str | None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the points of one volume or of all.

        Raises:
            StoreError: none of them could be opened, so what points there are is not known.
        """
        tasks = self._lanes(volume) if volume is not None else list(self._tasks.values())
        opened = [t.opened for t in tasks if t.opened]
        if tasks and not opened:
            raise _unknown_points(tasks[0])
        return [
            p
            for parts in opened
            for p in parts.catalogue.points(with_forgotten=with_forgotten)
        ]  # fmt: skip

    async def point(self, selector: str) -> Point:
        """Return the one point that ``selector`` names.

        Of a volume with several targets at one that answers, if there is: a ``note`` then tells of
        a better one at a target that does not.
        """
        found = await self.points(None, with_forgotten=True)
        best = _resolved(selector, found)
        down = {t["name"] for t in self._targets.messages() if t["up"] is False}
        if best["target"] not in down or best["id"].startswith(selector):
            return best
        others = [p for p in found if p["volume"] == best["volume"] and p["target"] not in down]
        try:
            near = _resolved(selector, others)
        except BlocksnapError:
            return best
        said = f"{best['target']} does not answer; it has {best['id']} of {best['time']}."
        return {**near, "note": f"{near.get('note', '')} {said}".strip()}

    async def files(
        self,
        selector: str,
        query: FilesQuery,  # noqa: ARG002
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Refuse: it takes the private key."""
        raise KeyMissingError(
            f"the daemon holds no private key, so it can't read files of {selector}",
            effect="Whoever takes this host over can't read its history through the daemon.",
            hint="Use blocksnapctl with --key FILE: it reads the repository itself.",
        )
        yield {}

    async def place_of(self, volume: str, target: str = "") -> Place:
        """Return where the points of a configured volume are pruned."""
        task = self._task(volume, target)
        settings, opened = task.settings, task.opened
        if opened is None:
            raise _unknown_points(task)
        policy = policy_of_settings(settings.retention) if settings.retention else None
        pruner = await self._pruners.of(settings.target)

        def note(ledger: Ledger) -> None:
            opened.catalogue.mark(Marks(ledger, self._now_us()))
            task.tell_points()

        return Place(settings.name, opened.volume.volume_id, settings.target, pruner, policy, note)

    async def refresh(self, target: str) -> None:
        """Learn what maintaining ``target``, by another process, changed; trouble is logged."""
        for task in tuple(self._tasks.values()):
            name = task.settings.name
            if task.settings.target != target or task.opened is None:
                continue
            try:
                await self._pruning.look(await self.place_of(name, target))
            except BlocksnapError as error:
                log.warning("%s: listings may be out of date: %s", name, error.sentences())

    async def start_run(self, request: RunRequest, who: Who) -> Started:
        """Start a cycle or a prune, or join the one under way."""
        if request.get("kind") == "prune":
            if "policy" in request:
                raise RefusedError(
                    "the daemon keeps what its configuration says", effect="Nothing was started.",
                    hint="Change [retention.NAME], or name the repository: --repo URL.",
                )  # fmt: skip
            return await self.start_prune(request, who)
        if request.get("kind") == "drill":
            return self.start_drill(request, who)
        if request.get("kind") != "cycle":
            raise KeyMissingError(
                f"the daemon holds no private key, so it can't {request.get('kind')} a point",
                effect="Whoever takes this host over can't read its history through the daemon.",
                hint="Use blocksnapctl with --key FILE: it reads the repository itself.",
            )
        return self._start_cycles(request, who)

    def _start_cycles(self, request: RunRequest, who: Who) -> Started:
        """Ask for a point at each target of a volume, or at the one that is named."""
        tags, asked = tuple(request.get("tags", ())), []
        for task in self._lanes(request.get("volume", ""), request.get("target", "")):
            run, joined = task.ask(
                tags=tags, full=request.get("full", False), who=who, lease=request.get("lease", "")
            )
            asked.append((run.run_id, joined))
        started: Started = {
            "schema": SCHEMA, "id": asked[0][0], "joined": any(joined for _, joined in asked),
        }  # fmt: skip
        if len(asked) > 1:
            started["others"] = [run_id for run_id, _ in asked[1:]]
        return started

    async def pause(self, volume: str, request: PauseRequest, who: Who) -> VolumeStatus:
        """Start no run of a volume by itself any more."""
        task = self._task(volume)
        await asyncio.to_thread(
            task.pausing.pause, request.get("seconds"), request.get("reason", ""), who
        )
        return self._volume_status(task)

    async def resume(self, volume: str, request: ResumeRequest, who: Who) -> VolumeStatus:  # noqa: ARG002
        """Let the schedule of a volume go on."""
        task = self._task(volume)
        await asyncio.to_thread(task.pausing.resume, force=request.get("force", False))
        for lane in self._lanes(volume):
            lane.wake()
        return self._volume_status(task)

    async def in_place(self, volume: str, request: InPlaceRequest, who: Who) -> Paused:
        """Hear from whoever restores a volume in place."""
        return await hear(self._task(volume), request, who)

    async def end_views(self, volume: str, who: Who) -> EndedViews:  # noqa: ARG002
        """End the kernel's views of a volume."""
        return {"schema": SCHEMA, "done": await end_views(self._task(volume))}

    def events(self, since: int, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield events after ``since``."""
        return self._events.events(since, follow=follow)

    def note(self, text: str, who: Who, *, volume: str) -> None:
        """Put who changed something into the event log."""
        self._events.say("asked", text, volume=volume, data={"who": dict(who)})

    async def config(self) -> ConfigTold:
        """Return every setting that holds."""
        return self._reloaded_by().told()

    async def reload(self) -> Reloaded:
        """Take the changed configuration up."""
        return await self._reloaded_by().reload()

    def _reloaded_by(self) -> Reloading:
        if self.reloading is None:
            raise NotFoundError("this daemon has no file of its configuration")
        return self.reloading

    async def ready(self) -> bool:
        """Say whether start-up is behind us."""
        return self.is_ready

    def _task(self, name: str, target: str = "") -> VolumeTask:
        """Return the task of a volume's target: of the one named, or the first that is open."""
        lanes = self._lanes(name, target)
        return next((task for task in lanes if task.opened is not None), lanes[0])

    def _lanes(self, name: str, target: str = "") -> list[VolumeTask]:
        """Return the tasks of all targets of a volume, or of one; never none."""
        if not name:
            raise UsageError(
                "no volume was named", effect="Nothing was done.",
                hint="Name one of: " + ", ".join(self._names()),
            )  # fmt: skip
        lanes = [task for task in self._tasks.values() if task.settings.name == name]
        if not lanes:
            raise NotFoundError(
                f"no volume {name!r} is configured",
                effect="Nothing was done.",
                hint="Configured are: " + (", ".join(self._names()) or "none"),
            )
        found = [task for task in lanes if target in ("", task.settings.target)]
        if not found:
            raise NotFoundError(
                f"{name} has no target {target!r}",
                effect="Nothing was done.",
                hint="It has: " + ", ".join(task.settings.target for task in lanes),
            )
        return found

    def _names(self) -> list[str]:
        return list(dict.fromkeys(task.settings.name for task in self._tasks.values()))

    def _volume_status(self, task: VolumeTask) -> VolumeStatus:
        name, target = task.settings.name, task.settings.target
        catalogue = task.opened.catalogue if task.opened else None
        newest = catalogue.newest() if catalogue else None
        return volume_status(
            task.settings,
            now=self._clock.now(),
            newest=newest,
            point_count=len(catalogue.points()) if catalogue else 0,
            size=newest["size"] if newest else 0,
            due_in_s=task.next_due_in_s(),
            failures=task.failures,
            causes=[c for c in (task.pausing.problem(), task.cause, task.suspect) if c],
            cow=task.cow_watch.use,
            active=self._book.active("cycle", name, target),
            last=self._book.last(name, target),
            paused=task.pausing.message(),
        )


def _resolved(selector: str, points: list[Point]) -> Point:
    kept = [p for p in points if "forgotten" not in p]
    return resolve_any(selector, kept, [p for p in points if "forgotten" in p])


def _unknown_points(task: VolumeTask) -> StoreError:
    cause = task.cause["message"] if task.cause else "it is not open yet"
    return StoreError(
        f"the points of {task.settings.name} are not known: {cause}",
        effect="What the repository holds is not touched.",
        hint="See blocksnapctl status; or read the repository itself: --repo URL --key FILE.",
    )
