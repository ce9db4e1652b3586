"""Runs of a worker beside the daemon that protects the volume: both have a say."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.service.daemon_client import DaemonClient
from blocksnapd.service.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from blocksnapd.control.messages import RunRequest
    from blocksnapd.model import RestorePoint
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints


@dataclass(frozen=True, slots=True)
class Beside:
    """What such a run works with; ``stop`` is set when it is asked to end."""

    point: RestorePoint
    run: LiveRun
    stop: threading.Event
    daemon: DaemonClient


async def job_beside(
    request: RunRequest, points: WorkerPoints, work: Callable[[Beside], Awaitable[None]]
) -> Job:
    """Return what does ``work`` with the point that ``request`` names.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names no point.
    """
    point = await points.point(request.get("point", ""))
    stop = threading.Event()

    async def begin(run: LiveRun) -> None:
        async with DaemonClient(request["daemon"]) as daemon:
            await work(Beside(points.named(point["id"]), run, stop, daemon))

    return Job(point["volume"], begin, stop.set)
