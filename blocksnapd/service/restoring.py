"""A run of a worker that restores a whole point: to a file, a device, or a volume it makes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from blocksnapd.cycle import new_volume
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.errors import (
    BlocksnapError,
    FormatError,
    KeyMissingError,
    NotFoundError,
    StoreError,
    UsageError,
)
from blocksnapd.restore.full import restore_full
from blocksnapd.restore.journal import JOURNAL_SUFFIX, JOURNALS, Journal
from blocksnapd.restore.resume import Resume
from blocksnapd.restore.target import TargetPlan, examine, open_target
from blocksnapd.runtime import durable
from blocksnapd.service import salvaging
from blocksnapd.service.jobs import Job
from blocksnapd.service.restore_plan import planned
from blocksnapd.store.places import own_directories
from blocksnapd.store.runs import Runs
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.control.messages import Run, RunRequest
    from blocksnapd.cycle.new_volume import NewVolume
    from blocksnapd.model import U64
    from blocksnapd.restore.progress import Progress
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints
    from blocksnapd.store.image import Image

_READING: Final = ("", "survey", "clear", "check", "write")  # where damage is the repository's


async def restoring(request: RunRequest, points: WorkerPoints) -> Job:
    """Return what restores the point that ``request`` names.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names no point, or no target.
    """
    point = await points.point(request.get("point", ""))
    if not request.get("to"):
        raise UsageError(
            "no target was named", effect="Nothing was written.", hint="Say where to: --to PATH"
        )

    def work(run: LiveRun, cancelled: Callable[[], bool]) -> None:
        run.point, run.to = point["id"], request["to"]
        Restoring(request, points, run, cancelled).do()

    return Job.in_thread(point["volume"], work)


class Restoring:
    """One restore. Blocking."""

    def __init__(
        self, request: RunRequest, points: WorkerPoints, run: LiveRun, cancelled: Callable[[], bool]
    ) -> None:
        self._request, self._points = request, points
        self._run, self._cancelled = run, cancelled
        self._told: Run = {}  # what the run tells besides
        self._warnings: list[str] = []
        self._lvm = Lvm()
        self._resume: Resume | None = None

    def do(self) -> None:
        """Restore, or plan it.

        Raises:
            ChecksumError: the point is damaged, and that is not allowed; or the target is.
            Otherwise as ``new_volume.plan``, ``examine`` and ``restore_full``.
        """
        image = self._open()
        try:
            if self._request.get("dry_run"):
                self._plan(image)
                return
            if self._request.get("allow_damaged"):
                image = self._around_damage(image)
            self._restore(image)
        except KeyMissingError:
            raise
        except (FormatError, StoreError) as error:
            if self._run.phase not in _READING:
                raise  # of the target
            damage = salvaging.survey(image, self._points, self._run, self._cancelled)
            if not damage:
                raise
            raise salvaging.refusal(image, damage, self._points, error=error) from error
        finally:
            image.close()

    def _open(self) -> Image:
        try:
            return self._points.open_image(self._run.point)
        except (FormatError, NotFoundError) as error:
            point = self._points.named(self._run.point)
            raise salvaging.unreadable(point, self._points, error) from error

    def _plan(self, image: Image) -> None:
        """Tell what would be done; nothing is changed."""
        if self._request.get("new"):
            new = asyncio.run(new_volume.plan(self._lvm, self._run.to, image.size))
            plan = TargetPlan(new.path, "device", new.size, replaces=False, is_new=True)
            size = new.size
        else:
            plan, size = self._examine(image), None
        journal = _journal(plan, image)
        kept = journal.blocks() * image.block_size if journal is not None else 0
        self._run.phase = "plan"
        found = planned(image, plan, self._points, kept=kept, volume_size=size)
        self._run.more = {"planned": found}

    def _around_damage(self, image: Image) -> Image:
        """Return what is left of ``image``; what is lost is listed in a file, if anything is."""
        path = self._request.get("damaged_list") or f"{self._run.to}.damaged"
        salvaging.check_place(path)
        damage = salvaging.survey(image, self._points, self._run, self._cancelled)
        if not damage:
            return image
        salvaging.write_list(path, image, damage, self._run.to)
        lost = salvaging.lost_bytes(image, damage)
        self._told = {"damaged_bytes": lost, "damaged_list": path}
        self._warnings.append(
            f"{format_size(lost)} ({lost} bytes) of the point are lost and are zero in "
            f"{self._run.to}; which, tells {path}"
        )
        return image.without(damage.lost, damage.unmapped)

    def _restore(self, image: Image) -> None:
        if not self._request.get("new"):
            self._write(image, self._examine(image))
            return
        new = asyncio.run(new_volume.plan(self._lvm, self._run.to, image.size))
        asyncio.run(new_volume.make(self._lvm, new))
        try:
            self._write(image, self._examine(image, is_new=True))
        except BlocksnapError as error:
            self._clear_away(new, error)
            raise
        asyncio.run(new_volume.finish(self._lvm, new))

    def _write(self, image: Image, plan: TargetPlan) -> None:
        self._run.warnings = [*self._warnings, *plan.notes]
        journal = _journal(plan, image)
        keeps = journal is not None and bool(journal.read())
        keeps = keeps and not (plan.kind == "device" and plan.replaces)
        target = open_target(plan, keeps=keeps)
        self._resume = resume = None if journal is None else Resume(journal, _without(image))
        if resume is not None and not keeps:
            resume.distrust()
        report = restore_full(
            image, target, progress=self._progress, cancelled=self._cancelled, resume=resume
        )
        run = self._run
        run.to, run.changed_bytes = report.path, report.written_bytes
        run.phases = {"write": report.write_s, "verify": report.verify_s}
        run.more = {**self._told, "kept_bytes": report.kept_bytes}

    def _clear_away(self, new: NewVolume, error: BlocksnapError) -> None:
        """Remove a volume that was made in vain, unless it can be gone on with.

        One that was there stays: another restore may have finished it meanwhile.
        """
        if new.is_there or (self._resume is not None and self._resume.has_batches):
            error.effect += f" {new.name} stays as it is, to go on with."
            return
        try:
            asyncio.run(new_volume.remove(self._lvm, new))
        except BlocksnapError as trouble:
            error.effect += f" {new.name} could not be removed: {trouble.message}"
        else:
            error.effect += f" {new.name} was removed again."

    def _examine(self, image: Image, *, is_new: bool = False) -> TargetPlan:
        return examine(
            self._run.to,
            image_size=image.size,
            data_size=image.data_size(),
            overwrite=self._request.get("overwrite", False),
            keep_out=own_directories(self._points.url),
            is_new=is_new,
        )

    def _progress(self, now: Progress) -> None:
        run = self._run
        run.phase, run.done_bytes, run.expected_bytes = now.phase, now.done, now.total
        run.more = {**self._told, "rate": now.rate, "eta": now.eta_s}


def _journal(plan: TargetPlan, image: Image) -> Journal | None:
    """Return the journal of a restore to ``plan``; None where there is no place for one."""
    about = {
        "point": image.point.facts.point_id, "digest": image.point.digest, "size": image.size,
        "block_size": image.block_size, "to": plan.path,
    }  # fmt: skip
    if plan.kind == "file":
        return Journal(plan.path + JOURNAL_SUFFIX, about)
    # Beside a device there is only memory.
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    root = JOURNALS if os.geteuid() == 0 and "XDG_STATE_HOME" not in os.environ else state
    try:
        durable.make_dirs(root)
    except OSError:
        return None
    if not os.access(root, os.W_OK | os.X_OK):
        return None
    return Journal(os.path.join(root, quote(plan.path, safe="") + JOURNAL_SUFFIX), about)


def _without(image: Image) -> Callable[[U64, U64], Image]:
    return lambda starts, lengths: image.without(Runs.zeros(starts, lengths))
