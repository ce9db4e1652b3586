"""A run of a worker that lets the kernel show a volume as it was, in seconds.

    lease     the daemon starts no cycle for a moment, so that its snapshot stays
    base      a read-only snapshot for the view to stand on
    compare   newest point and wanted point differ here, and here it was written to since
    write     only that, as a COW file in the kernel's own format
    show      the kernel puts the one over the other

The schedule goes on before anything is written: what the view stands on never changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.cycle import view_device
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.cycle.snapshot_content import SnapshotContent
from blocksnapd.errors import BlocksnapError, CancelledRunError, RefusedError
from blocksnapd.parse import cow_format
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.cow_writer import CowWriter
from blocksnapd.parse.extents import merge_chunks
from blocksnapd.restore.in_place import measure
from blocksnapd.service.beside import job_beside
from blocksnapd.service.cow_parts import begun_parts
from blocksnapd.store.difference import Difference
from blocksnapd.units import format_size

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from blocksnapd.control.messages import RunRequest
    from blocksnapd.model import RestorePoint
    from blocksnapd.service.beside import Beside
    from blocksnapd.service.daemon_client import DaemonClient
    from blocksnapd.service.jobs import Job
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints
    from blocksnapd.store.image import Image

_KEPT: Final = "The volume was not changed, and goes on being protected."
_EXPORT: Final = "Without that: blocksnapctl export POINT --key FILE shows it over NBD."


async def viewing(request: RunRequest, points: WorkerPoints) -> Job:
    """Return what shows the point that ``request`` names beside its volume.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names no point. RefusedError: its volume is
            no logical volume.
    """

    async def work(beside: Beside) -> None:
        view = _Viewing(points, beside.point, beside.run, beside.stop)
        await view.run(beside.daemon, writable=request.get("writable", False))

    return await job_beside(request, points, work)


class _Viewing:
    def __init__(
        self, points: WorkerPoints, wanted: RestorePoint, run: LiveRun, stop: threading.Event
    ) -> None:
        self._points, self._wanted, self._run, self._stop = points, wanted, run, stop
        self._name, self._id = wanted.facts.volume_name, wanted.facts.point_id
        self._volume = _logical_volume(self._name)
        self._lvm = Lvm()
        self._directory = ""

    async def run(self, daemon: DaemonClient, *, writable: bool) -> None:
        """Make it; when it fails nothing of it is left."""
        run = self._run
        run.point = self._id
        base = ""
        try:
            async with self._leased(daemon):
                run.phase = "base"
                base, notes = await view_device.take_base(self._lvm, self._volume, self._id)
                run.warnings = [*run.warnings, *notes]
                run.phase = "compare"
                difference, now, wanted = await asyncio.to_thread(self._compare)
            with closing(now), closing(wanted):
                run.phase = "write"
                path = await asyncio.to_thread(self._write, difference, wanted, writable=writable)
            run.phase = "show"
            run.to = await view_device.show(
                self._lvm, self._volume, self._id, base=base, cow=path,
                size=wanted.size, chunk_size=wanted.block_size, writable=writable,
            )  # fmt: skip
        except BaseException as error:
            await self._leave(error, is_begun=bool(base))
            raise

    @contextlib.asynccontextmanager
    async def _leased(self, daemon: DaemonClient) -> Any:
        body: dict[str, Any] = {"point": self._id}
        told = await daemon.post("volumes", self._name, "in-place", body=body)
        body = {"id": told["id"]}
        try:
            if told["writing"]:
                raise RefusedError(
                    str(told["reason"]), effect=_KEPT, hint="Finish that, or undo it, first."
                )
            self._directory = str(told.get("directory") or "")
            self._room = told.get("room")
            if not self._directory:
                raise RefusedError(
                    f"{self._name} has no COW space with a file, beside which the view's could lie",
                    effect=_KEPT, hint=_EXPORT,
                )  # fmt: skip
            yield
        finally:
            # One that was half restored before stays so: it is not ours to end.
            if not told["writing"]:
                await daemon.post("volumes", self._name, "in-place", body={**body, "done": True})

    def _compare(self) -> tuple[Difference, Image, Image]:
        """Return where what the view stands on differs from the wanted point."""
        repository, facts = self._points.repository, self._wanted.facts
        content = SnapshotContent(self._volume, CowDevice, merge_chunks)
        newest = repository.newest(facts.volume_id)
        if newest is None or newest.is_damaged or content.cow_use(newest.point_id) is None:
            raise RefusedError(
                f"what {self._name} holds now is not known: nothing tracks since its newest point",
                effect=_KEPT,
                hint=f"Make a point: blocksnapctl run {self._name} --wait. Then again. {_EXPORT}",
            )
        changes = content.changes(newest.point_id)
        now = repository.open_image(newest.name)
        wanted = repository.open_image(self._wanted)
        if wanted.size > now.size or wanted.block_size != now.block_size:
            raise RefusedError(
                f"{self._name} was made smaller since: it has {now.size} bytes, the point "
                f"{wanted.size}", effect=_KEPT, hint=_EXPORT,
            )  # fmt: skip
        if not cow_format.is_chunk_size(wanted.block_size):
            raise RefusedError(
                f"the kernel knows no snapshots in blocks of {wanted.block_size} bytes",
                effect=_KEPT, hint=_EXPORT,
            )  # fmt: skip
        return Difference(now, wanted, changes.extents), now, wanted

    def _write(self, difference: Difference, wanted: Image, *, writable: bool) -> str:
        unit, run, begun = wanted.block_size, self._run, time.monotonic()
        measured = measure(difference, unit)
        _check_room(self._room, measured.size)
        run.expected_bytes = measured.size
        entries = measured.chunk_bytes // unit
        size = cow_format.bytes_needed(entries, unit)
        if writable:  # each block may be written to once more than it is listed
            size = max(size, cow_format.cow_size_max(wanted.size, unit) + unit)
        path = view_device.cow_file(self._volume, self._id, self._directory)
        with CowWriter(path, chunk_size=unit, size=size) as writer:
            for part in begun_parts(difference, writer, unit):
                run.done_bytes += part.zero_extents.size
                with closing(part.each_piece(_writing(writer))) as pieces:
                    for done in pieces:
                        run.done_bytes += done
                        if self._stop.is_set():
                            raise CancelledRunError("The view was cancelled.")
            writer.finish()
        run.changed_bytes = measured.size
        run.phases["write"] = time.monotonic() - begun
        return path

    async def _leave(self, error: BaseException, *, is_begun: bool) -> None:
        """Clear away what was made, and say what the error means."""
        if is_begun:
            try:
                await view_device.end(self._lvm, self._volume, self._directory, self._id)
            except BlocksnapError as failure:
                self._run.warnings = [*self._run.warnings, failure.sentences()]
        if isinstance(error, BlocksnapError):
            error.effect = error.effect or _KEPT


def _writing(writer: CowWriter) -> Callable[[Any, memoryview], int]:
    def write(blocks: Any, data: memoryview) -> int:
        writer.write(blocks, data)
        return len(data)

    return write


def _check_room(room: int | None, size: int) -> None:
    if room is not None and size > room:
        raise RefusedError(
            f"{format_size(size)} differ, and the COW space's disk has {format_size(room)} above "
            "its reserve", effect=_KEPT, hint=_EXPORT,
        )  # fmt: skip


def _logical_volume(name: str) -> VolumeName:
    try:
        return VolumeName.parse(name)
    except BlocksnapError:
        raise RefusedError(
            f"{name} is no logical volume, so the kernel has no snapshots of it", effect=_KEPT,
            hint=_EXPORT,
        ) from None  # fmt: skip
