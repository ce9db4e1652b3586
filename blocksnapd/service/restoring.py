"""A run of a worker that restores a whole point to a file or device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import UsageError
from blocksnapd.restore.full import restore_full
from blocksnapd.restore.target import examine, open_target
from blocksnapd.service.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.control.messages import RunRequest
    from blocksnapd.restore.progress import Progress
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints


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
        _restore(run, points, cancelled, overwrite=request.get("overwrite", False))

    return Job.in_thread(point["volume"], work)


def _restore(
    run: LiveRun, points: WorkerPoints, cancelled: Callable[[], bool], *, overwrite: bool
) -> None:
    def progress(now: Progress) -> None:
        run.phase, run.done_bytes, run.expected_bytes = now.phase, now.done, now.total

    image = points.open_image(run.point)
    try:
        plan = examine(
            run.to,
            image_size=image.size,
            data_size=image.data_size(),
            overwrite=overwrite,
            keep_out=[points.directory],
        )
        run.warnings = list(plan.notes)
        report = restore_full(image, open_target(plan), progress=progress, cancelled=cancelled)
    finally:
        image.close()
    run.to = report.path
    run.phases = {"write": report.write_s, "verify": report.verify_s}
    run.changed_bytes = report.written_bytes
