"""Runs of a worker that verify: one point, or everything of some volumes. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocksnapd.errors import CancelledRunError, ChecksumError
from blocksnapd.keep_rules import SECOND_US
from blocksnapd.service.jobs import Job
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocksnapd.control.messages import RunRequest
    from blocksnapd.maintain.verify_levels import PointCheck
    from blocksnapd.maintain.verify_runs import Outcome, VerifyRuns
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints
    from blocksnapd.store.repository import Repository

PROBLEMS_MAX = 200
RANGES_SHOWN = 4


class RunsOf(Protocol):
    """Gives what verifies one volume."""

    def __call__(
        self,
        volume_id: str,
        *,
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> VerifyRuns:
        """Return it."""


async def verifying(request: RunRequest, points: WorkerPoints, runs_of: RunsOf, now: float) -> Job:
    """Return what verifies the point, the volume or everything that ``request`` names.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names nothing that there is.
    """
    if request.get("point"):
        name = points.named((await points.point(request["point"]))["id"]).name

        def work(run: LiveRun, cancelled: Callable[[], bool]) -> None:
            Verifying(points.repository, runs_of, run, cancelled).point(name)

        return Job.in_thread("", work)
    volume_ids, share = points.volumes_to_verify(request.get("volume")), request.get("share", 1)

    def work_all(run: LiveRun, cancelled: Callable[[], bool]) -> None:
        of = Verifying(points.repository, runs_of, run, cancelled)
        of.volumes(volume_ids, share=share, now_us=round(now * SECOND_US))

    return Job.in_thread(request.get("volume", ""), work_all)


class Verifying:
    """One run that verifies; it fails if anything is wrong."""

    def __init__(
        self, repository: Repository, runs_of: RunsOf, run: LiveRun, cancelled: Callable[[], bool]
    ) -> None:
        self._repository, self._runs_of = repository, runs_of
        self._run, self._cancelled = run, cancelled

    def point(self, name: str) -> None:
        """Read back the point ``name``.

        Raises:
            ChecksumError: it is damaged. CancelledRunError: it was cancelled.
        """
        report = self._repository.verify(name, progress=self._progress)
        point_id = report.point.facts.point_id if report.point else name
        problems = [f"{point_id}: {problem}" for problem in report.problems]
        self._end(problems, list(report.notes), 1, report.checked_blocks)

    def volumes(self, volume_ids: Sequence[str], *, share: float, now_us: int) -> None:
        """Check everything of these volumes; read ``share`` of the bytes of packs whole.

        Raises:
            ChecksumError: something is damaged. CancelledRunError: it was cancelled.
            HostError: no room for notes.
        """
        problems: list[str] = []
        notes: list[str] = []
        points = blocks = 0
        for volume_id in volume_ids:
            self._run.phase = volume_id
            runs = self._runs_of(volume_id, progress=self._progress, cancelled=self._cancelled)
            outcome = runs.whole(now_us, share=share) if share else runs.structure(now_us)
            problems += [*outcome.problems, *_harmed(outcome)]
            notes += outcome.notes
            points += len(outcome.check.points)
            blocks += outcome.read_blocks
        self._end(problems, notes, points, blocks)

    def _progress(self, done: int, total: int) -> None:
        if self._cancelled():
            raise CancelledRunError("the verification was cancelled")
        self._run.done_bytes, self._run.expected_bytes = done, total

    def _end(self, problems: list[str], notes: list[str], points: int, blocks: int) -> None:
        said = problems[:PROBLEMS_MAX]
        if len(problems) > len(said):
            said.append(f"and {len(problems) - len(said)} more")
        self._run.warnings = [*said, *notes]
        of = format_count(points, "point")
        if problems:
            raise ChecksumError(
                f"{format_count(len(problems), 'problem')} found in {of}",
                effect="What is damaged can't be restored; everything else can.",
                hint="The warnings name what is harmed. Keep the repository as it is and restore "
                "from another point; look at the disk it lies on. What the volume still has is "
                "shipped again by its next cycle.",
            )
        self._run.reason = f"{of} whole, {format_count(blocks, 'block')} read"


def _harmed(outcome: Outcome) -> list[str]:
    return [_damage(point) for point in outcome.check.points if point.damaged_bytes]


def _damage(point: PointCheck) -> str:
    shown = [f"{start}-{end}" for start, end in point.damaged[:RANGES_SHOWN]]
    more = ", …" if len(point.damaged) > RANGES_SHOWN else ""
    size = format_size(point.damaged_bytes)
    return f"{point.point_id}: {size} cannot be restored: bytes {', '.join(shown)}{more}"
