"""A run of a worker that restores a volume in place, beside the daemon that protects it.

    hold      the volume is opened for this process alone; whoever uses it is told, and refused
    lease     the daemon starts no cycle any more
    safety    the daemon makes a point, so that this can be undone
    compare   safety point and wanted point differ here, and here the volume was written to since
    write     after the daemon remembers that the volume may hold a mixture
    verify    what was written is read back
    end       the schedule goes on; the snapshot that tracks was there all the time

Killed anywhere the same request finishes it: what was written is in the exception table of the
safety point's snapshot, and so in the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.cycle.merging import is_begun
from blocksnapd.cycle.snapshot_content import SnapshotContent
from blocksnapd.errors import (
    BlocksnapError,
    CancelledRunError,
    HostError,
    NotFoundError,
    RefusedError,
    TrackingLostError,
    UnreachableError,
)
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.extents import merge_chunks
from blocksnapd.restore.held_volume import HeldVolume
from blocksnapd.restore.in_place import Measured, measure, write_in_place
from blocksnapd.service.beside import job_beside
from blocksnapd.service.merging import Merge
from blocksnapd.store.difference import Difference
from blocksnapd.store.names import parse_point_name
from blocksnapd.units import format_size

if TYPE_CHECKING:
    import threading

    from blocksnapd.control.messages import RunRequest
    from blocksnapd.model import Changes, RestorePoint
    from blocksnapd.restore.progress import Progress
    from blocksnapd.service.beside import Beside
    from blocksnapd.service.daemon_client import DaemonClient
    from blocksnapd.service.jobs import Job
    from blocksnapd.service.runs import LiveRun
    from blocksnapd.service.worker_points import WorkerPoints
    from blocksnapd.store.image import Image

SAFETY_TAG: Final = "before-restore"
DAEMON_BACK_S_MAX: Final = 60.0
_AGAIN_S: Final = 0.5
_WAIT: Final = "2s"
_UNTOUCHED: Final = "The volume was not written to."


async def in_place(request: RunRequest, points: WorkerPoints) -> Job:
    """Return what restores the volume of the point that ``request`` names, in place.

    Raises:
        UsageError, NotFoundError, ChecksumError: it names no point. RefusedError: its volume is
            no logical volume.
    """

    async def work(beside: Beside) -> None:
        restore = _InPlace(points, beside.point, beside.run, beside.stop)
        restore.merges, restore.target = request.get("merge", False), request.get("target", "")
        await restore.run(beside.daemon)

    return await job_beside(request, points, work)


class _InPlace:
    def __init__(
        self, points: WorkerPoints, wanted: RestorePoint, run: LiveRun, stop: threading.Event
    ) -> None:
        self._points, self._wanted, self._run, self._stop = points, wanted, run, stop
        self._name = wanted.facts.volume_name
        self._volume = _logical_volume(self._name)
        self._content = SnapshotContent(self._volume, CowDevice, merge_chunks)
        self._lease = ""
        self._safety = ""
        self._is_written = False
        self._merge = Merge(Lvm(), self._volume, wanted.facts.point_id, run, stop)
        self.merges = False
        self.target = ""  # the daemon's name of where the safety point goes, if it has several

    async def run(self, daemon: DaemonClient) -> None:
        """Do it all; what it leaves when it fails is in the error."""
        run, wanted = self._run, self._wanted
        run.point, run.to = wanted.facts.point_id, f"/dev/mapper/{self._volume.dm}"
        try:
            held = await asyncio.to_thread(HeldVolume, run.to)
            with held:
                _check_identity(held, wanted)
                await self._begin(daemon)
                if self.merges or await asyncio.to_thread(is_begun, self._volume):
                    # One of before that was killed, or that a boot interrupted.
                    run.warnings = [*run.warnings, *await self._merge.settle()]
                    self.merges &= run.phase != "merge"  # what is left of it is next to nothing
                await self._restore(daemon, held)
            if self.merges:
                await self._merge.begin()
                await self._merge.settle()
                await asyncio.to_thread(self._check_tracking)
            await self._say(daemon, {"done": True})
        except BaseException as error:
            await self._leave(daemon, error)
            raise
        run.phase = ""
        run.reason = f"To undo it: blocksnapctl restore {self._safety} --in-place --key FILE"

    async def _begin(self, daemon: DaemonClient) -> None:
        body = {"point": self._wanted.facts.point_id}
        told = await daemon.post("volumes", self._name, "in-place", body=body)
        self._lease, self._safety = str(told["id"]), str(told["safety"])
        self._is_written = bool(told["writing"])
        if self._is_written:
            self._run.warnings = [
                *self._run.warnings,
                f"A restore in place was begun before; the point from before it is {self._safety}.",
            ]
            return
        begun = time.monotonic()
        self._run.phase = "safety point"
        self._safety = await self._make_safety(daemon)
        self._run.phases["safety"] = time.monotonic() - begun

    async def _make_safety(self, daemon: DaemonClient) -> str:
        """Let the daemon make a point of what the volume holds now; return its id."""
        request = {
            "kind": "cycle", "volume": self._name, "tags": [SAFETY_TAG], "lease": self._lease,
        }  # fmt: skip
        if self.target:
            request["target"] = self.target
        while True:
            started = await daemon.post("runs", body=request)
            ended = await self._wait(daemon, str(started["id"]))
            if not started["joined"]:
                break  # another began before we held the volume
        if ended.get("result") not in {"success", "warning"} or not ended.get("point"):
            error = ended.get("error") or {}
            raise HostError(
                f"The point from before the restore could not be made: "
                f"{error.get('message') or ended.get('result')}",
                effect=_UNTOUCHED,
                hint=str(error.get("hint") or "See: blocksnapctl runs. Then again."),
            )
        return str(ended["point"])

    async def _wait(self, daemon: DaemonClient, run_id: str) -> dict[str, Any]:
        while True:
            found = await daemon.get("runs", run_id, wait=_WAIT)
            self._run.done_bytes = int(found.get("done_bytes", 0))
            self._run.expected_bytes = int(found.get("expected_bytes", 0))
            if found.get("state") == "done":
                return found
            self._check_stop()

    async def _restore(self, daemon: DaemonClient, held: HeldVolume) -> None:
        run, begun = self._run, time.monotonic()
        run.phase = "compare"
        now = await asyncio.to_thread(self._open_safety)
        wanted = await asyncio.to_thread(self._points.repository.open_image, self._wanted)
        try:
            run.warnings = [*run.warnings, *_check_sizes(self._name, held, now, wanted)]
            changes = await asyncio.to_thread(self._changes)
            difference = Difference(now, wanted, changes.extents)
            size = await asyncio.to_thread(measure, difference, changes.chunk_size)
            run.phases["compare"] = time.monotonic() - begun
            self._check_stop()
            told = await self._say(daemon, {"safety": self._safety})
            _check_room(told.get("room"), size, changes)
            if self.merges:  # which writes nothing to the volume yet
                await self._merge.prepare(difference, size, now.block_size)
            await self._say(daemon, {"writing": True})
            self._is_written = True
            if not self.merges:
                await asyncio.to_thread(self._write, difference, held, now.block_size, size)
                await asyncio.to_thread(self._check_tracking)
        finally:
            now.close()
            wanted.close()

    def _write(
        self, difference: Difference, held: HeldVolume, block_size: int, size: Measured
    ) -> None:
        run = self._run

        def progress(now: Progress) -> None:
            run.phase, run.done_bytes, run.expected_bytes = now.phase, now.done, now.total

        done = write_in_place(
            difference, held, block_size=block_size, size=size.size,
            progress=progress, cancelled=self._stop.is_set,
        )  # fmt: skip
        run.changed_bytes = done.written_bytes
        run.phases |= {"write": done.write_s, "verify": done.verify_s}

    def _open_safety(self) -> Image:
        repository, facts = self._points.repository, self._wanted.facts
        for name in repository.names(facts.volume_id):
            if parse_point_name(name).point_id == self._safety:
                return repository.open_image(name)
        raise NotFoundError(
            f"{self._safety}, the point from before the restore, is not one of the volume of "
            f"{facts.point_id} in this repository",
            effect=_UNTOUCHED if not self._is_written else "",
            hint="Name the repository that the daemon ships to, and a point of the volume that is "
            "there now. One of another volume of this name: restore it with --to PATH.",
        )

    def _changes(self) -> Changes:
        try:
            return self._content.changes(self._safety)
        except TrackingLostError as error:
            error.effect = "What the volume holds now is known of no block any more."
            error.hint = (
                f"Let a new point be made of it as it is: blocksnapctl resume {self._name} --yes; "
                f"blocksnapctl run {self._name} --wait. Then the same command again."
            )
            raise

    def _check_tracking(self) -> None:
        try:
            self._content.check_valid((self._safety,))
        except TrackingLostError as error:
            self._run.warnings = [
                *self._run.warnings,
                f"{error.message}. The next run compares the whole volume; the restore is whole.",
            ]

    async def _say(self, daemon: DaemonClient, body: dict[str, Any]) -> dict[str, Any]:
        """Tell the daemon something of this restore; one that is started again is waited for."""
        body, end = {"id": self._lease, **body}, time.monotonic() + DAEMON_BACK_S_MAX
        while True:
            try:
                return await daemon.post("volumes", self._name, "in-place", body=body)
            except UnreachableError:
                if time.monotonic() > end or self._stop.is_set():
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def _leave(self, daemon: DaemonClient, error: BaseException) -> None:
        """Give the lease back when nothing was written; else say what is left."""
        if not self._is_written:
            if self.merges and self._lease:
                with contextlib.suppress(BlocksnapError):  # the next restore clears it away, too
                    await self._merge.settle()
            if self._lease:
                with contextlib.suppress(BlocksnapError):  # else it ends with this process
                    await self._say(daemon, {"done": True})
            if isinstance(error, BlocksnapError):
                error.effect = error.effect or _UNTOUCHED
        elif isinstance(error, BlocksnapError):
            wanted = self._wanted.facts.point_id
            left = f"{self._name} holds a mixture of {self._safety} and {wanted}, and stays paused."
            error.effect = f"{error.effect} {left}".strip()
            error.hint = (
                f"{error.hint} The same command goes on; to undo it: blocksnapctl restore "
                f"{self._safety} --in-place --key FILE"
            ).strip()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise CancelledRunError("The restore was cancelled.")


def _logical_volume(name: str) -> VolumeName:
    try:
        return VolumeName.parse(name)
    except BlocksnapError:
        raise RefusedError(
            f"{name} is no logical volume: nothing tells what was written to it since a point",
            effect=_UNTOUCHED,
            hint="Stop what uses it and restore all of it: blocksnapctl restore POINT --to PATH",
        ) from None


def _check_identity(held: HeldVolume, wanted: RestorePoint) -> None:
    uuid, volume_id = held.dm_uuid, wanted.facts.volume_id.replace("-", "")
    if not volume_id or not uuid.startswith("LVM-") or not uuid.endswith(volume_id):
        raise RefusedError(
            f"{held.path} is not the volume that {wanted.facts.point_id} is of: one of this name "
            "was made anew",
            effect=_UNTOUCHED,
            hint=f"To overwrite all of it: blocksnapctl restore {wanted.facts.point_id} --to "
            f"{held.path}",
        )


def _check_sizes(name: str, held: HeldVolume, now: Image, wanted: Image) -> list[str]:
    """Return what the operator should read about sizes.

    Raises:
        RefusedError: they do not allow it.
    """
    if now.size != held.size or now.block_size != wanted.block_size:
        raise RefusedError(
            f"{name} has {held.size} bytes, its newest point {now.size} in blocks of "
            f"{now.block_size}, the wanted one blocks of {wanted.block_size}: they do not fit",
            effect=_UNTOUCHED, hint="Restore to another device: --to PATH",
        )  # fmt: skip
    if wanted.size > held.size:
        raise RefusedError(
            f"{name} was made smaller since: it has {held.size} bytes, the point {wanted.size}",
            effect=_UNTOUCHED,
            hint=f"Make it {format_size(wanted.size)} again (lvextend -L {wanted.size}b {name}, "
            "which LVM allows once its snapshot is removed), or restore to another device: "
            "--to PATH",
        )
    if wanted.size < held.size:
        rest = held.size - wanted.size
        return [f"{name} grew since: {rest} bytes behind what the point holds are zero now."]
    return []


def _check_room(room: int | None, size: Measured, changes: Changes) -> None:
    """Refuse what could fill the COW space's disk: tracking would be lost half-way.

    Raises:
        RefusedError: there is not enough.
    """
    # What changed since the safety point is part of the difference, and was copied out already.
    needed = max(0, size.chunk_bytes - changes.extents.size)
    needed += needed // 256 + (1 << 20)
    if room is not None and needed > room:
        raise RefusedError(
            f"{format_size(needed)} of old content would be kept while it is overwritten, and the "
            f"COW space's disk has {format_size(room)} above its reserve",
            hint="Make room on that disk.",
        )
