"""Driver ``scan``: protects any file or block device by comparing everything. Edge.

It needs neither device-mapper nor root, and tracks nothing: each cycle reads the whole volume,
and fingerprints tell what to ship. There is no snapshot either. What is read is one instant only
if nobody wrote meanwhile, so the source watches for that and says it in ``consistency``:

- a file shows it by its modification and change time. Their clock ticks every few milliseconds,
  so a file that was written to a moment ago is first let rest, or a second write within the tick
  could not be seen;
- a block device shows it by the kernel's count of writes and discards (writes that reach the
  disk below it on another path, such as through the whole disk of a partition, don't count).
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blocksnapd.errors import HostError, NotAllowedError, TrackingLostError, VolumeError
from blocksnapd.model import BLOCK_SIZE_DEFAULT, Changes, Extents, HostView, SeenSnapshot, Taken
from blocksnapd.runtime import durable
from blocksnapd.runtime.direct_reader import DirectReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.model import SavedBatch, SnapshotState
    from blocksnapd.ports import BlockReader, Clock

UNCHANGED = "unchanged while it was read"
SMEARED = "changed while it was read: not one instant"
UNKNOWN = "not known whether it changed while it was read"

FILE_TICK_S = 0.05  # longer than any kernel's tick of file times
_NO_POINT = "No point was made; the earlier ones are untouched."


@dataclass(frozen=True, slots=True)
class _Look:
    """What a write to the volume would change.

    ``identity`` is a file's device and inode, or a device's number. ``traces`` is a file's times
    in ns, or how many sectors of a device were written and discarded; None where the kernel does
    not count. ``is_settled``: a write after this look cannot fail to leave a trace.
    """

    identity: tuple[int, int]
    size: int
    traces: tuple[int, ...] | None
    is_settled: bool

    def is_same_volume(self, other: _Look) -> bool:
        """Say whether both saw the same file or device, of the same size."""
        return (self.identity, self.size) == (other.identity, other.size)


class ScanSource:
    """A ``ChangeSource`` over one path."""

    driver = "scan"
    tracks = False

    def __init__(self, path: str, volume_id: str, clock: Clock) -> None:
        """Protect ``path``, a regular file or block device; links are followed at each use."""
        self.path = path
        self._volume_id = volume_id
        self._clock = clock
        self._point_id = ""
        self._taken: _Look | None = None
        self._consistency = UNKNOWN

    @property
    def consistency(self) -> str:
        """Whether the volume has changed since ``take``; ask after the last byte was read."""
        if self._taken is not None:
            self._consistency = self._judge(self._taken)
        return self._consistency

    async def observe(self, *, again: bool = False) -> HostView:  # noqa: ARG002
        """Look at the volume; the instant taken last is shown as its only snapshot.

        Raises:
            VolumeError: it is missing, empty, or neither a file nor a block device.
            NotAllowedError: the rights to read it are missing. HostError: looking failed.
        """
        look = await asyncio.to_thread(self._look)
        seen: tuple[SeenSnapshot, ...] = ()
        if self._taken is not None:
            state: SnapshotState = "good" if look.is_same_volume(self._taken) else "invalid"
            seen = (SeenSnapshot(self.path, self._point_id, state),)
        return HostView(volume_id=self._volume_id, size=look.size, snapshots=seen)

    async def repair(self) -> list[str]:
        """Do nothing: nothing can be half done."""
        return []

    async def take(self, point_id: str) -> Taken:
        """Remember this instant for ``point_id``, after a sync of the volume.

        Raises:
            VolumeError, NotAllowedError, HostError: see ``observe``.
        """
        start = self._clock.monotonic()
        look = await asyncio.to_thread(self._look, sync=True)
        if not look.is_settled:
            await self._clock.sleep(FILE_TICK_S)
            look = await asyncio.to_thread(self._look, sync=True)
        taken_at = datetime.fromtimestamp(self._clock.now(), UTC)
        self._point_id, self._taken = point_id, look
        return Taken(point_id, taken_at, 0.0, self._clock.monotonic() - start)

    def open_snapshot(self, point_id: str) -> BlockReader:
        """Open the volume itself, of the size it had at ``take``.

        Raises:
            TrackingLostError: it is another file by now, or ``point_id`` was not taken.
            VolumeError, NotAllowedError, HostError: it cannot be opened.
        """
        taken = self._known(point_id)
        try:
            reader = DirectReader(os.path.realpath(self.path), taken.size, effect=_NO_POINT)
        except OSError as error:
            raise self._failed(error) from error
        facts = reader.stat()
        if _identity(facts) != taken.identity:
            reader.close()
            raise self._replaced()
        return reader

    def changes(self, base_id: str) -> Changes:  # noqa: ARG002
        """Return the whole volume: anything may have changed since any point."""
        size = self._known(self._point_id).size
        return Changes(Extents.whole(size), chunk_size=BLOCK_SIZE_DEFAULT, entries=0)

    def saved(self, base_id: str, *, batch_size: int) -> Iterator[SavedBatch]:  # noqa: ARG002
        """Yield nothing: no old content is kept."""
        return iter(())

    def check_valid(self, point_ids: tuple[str, ...]) -> None:
        """Make sure that the volume is still the file or device it was at ``take``.

        One that was written to meanwhile is valid, but see ``consistency``.

        Raises:
            TrackingLostError: it is another one, or has another size.
        """
        if self._point_id not in point_ids or self._taken is None:
            return
        if not self._look().is_same_volume(self._taken):
            raise self._replaced()

    async def remove(self, point_id: str) -> None:
        """Forget the instant of ``point_id``."""
        if point_id == self._point_id:
            await asyncio.to_thread(lambda: self.consistency)  # the last look, remembered
            self._point_id, self._taken = "", None

    def _known(self, point_id: str) -> _Look:
        if self._taken is None or point_id != self._point_id:
            raise TrackingLostError(
                f"{self.path}: nothing is known of an instant {point_id or 'to read'}.",
                effect=_NO_POINT,
                hint="Driver scan keeps no snapshots; the next run reads the volume again.",
            )
        return self._taken

    def _judge(self, taken: _Look) -> str:
        try:
            now = self._look()
        except (HostError, NotAllowedError):
            return SMEARED  # gone or replaced in the meantime
        if not now.is_same_volume(taken) or now.traces != taken.traces:
            return SMEARED
        return UNCHANGED if taken.is_settled and taken.traces is not None else UNKNOWN

    def _look(self, *, sync: bool = False) -> _Look:
        """Note what a later write would change. Blocking."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(error) from error
        try:
            kind = os.fstat(fd).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
                raise self._unfit("is neither a file nor a block device")
            if sync:
                durable.sync_file(fd)
            look = _look_at_device(fd) if stat.S_ISBLK(kind) else _look_at_file(fd)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            os.close(fd)
        if look.size == 0:
            raise self._unfit("is empty")
        return look

    def _unfit(self, what: str) -> VolumeError:
        return VolumeError(
            f"{self.path} {what}.",
            effect=_NO_POINT,
            hint="Name a file or block device with content in the configuration.",
        )

    def _replaced(self) -> TrackingLostError:
        return TrackingLostError(
            f"{self.path} was replaced or changed its size while it was being read.",
            effect=_NO_POINT,
            hint="The next run reads what is there then.",
        )

    def _failed(self, error: OSError) -> HostError | NotAllowedError:
        message = f"{self.path} cannot be read: {error.strerror}."
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "Run as a user who may read it."
            return NotAllowedError(message, effect=_NO_POINT, hint=hint)
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.ELOOP):
            hint = "Bring it back, or correct its path in the configuration."
            return VolumeError(message, effect=_NO_POINT, hint=hint)
        return HostError(message, effect=_NO_POINT, hint="See the kernel log; it is tried again.")


def _look_at_file(fd: int) -> _Look:
    now = time.time_ns()  # the file system's clock; a handed-in one would not be comparable
    facts = os.fstat(fd)
    times = facts.st_mtime_ns, facts.st_ctime_ns
    is_settled = max(times) < now - int(FILE_TICK_S * 1e9)
    return _Look(_identity(facts), facts.st_size, times, is_settled)


def _look_at_device(fd: int) -> _Look:
    facts = os.fstat(fd)
    size = os.lseek(fd, 0, os.SEEK_END)
    writing, sectors = _sectors_written(facts.st_rdev)
    return _Look(_identity(facts), size, sectors, is_settled=not writing)


def _identity(facts: os.stat_result) -> tuple[int, int]:
    if stat.S_ISBLK(facts.st_mode):
        return facts.st_rdev, 0
    return facts.st_dev, facts.st_ino


def _sectors_written(rdev: int) -> tuple[bool, tuple[int, ...] | None]:
    """Return whether writes are under way, and how many sectors were written and discarded.

    Not the number of writes: the flush that our own sync sends counts as one on some devices.
    """
    base = f"/sys/dev/block/{os.major(rdev)}:{os.minor(rdev)}"
    queue = f"{base}/../queue" if os.path.exists(f"{base}/partition") else f"{base}/queue"
    try:
        if _numbers(f"{queue}/iostats") == [0]:
            return False, None
        counts = _numbers(f"{base}/stat")
        writing = _numbers(f"{base}/inflight")[1] > 0
    except (OSError, ValueError, IndexError):
        return False, None
    return writing, (counts[6], *counts[13:14])  # discards are counted since Linux 4.18


def _numbers(path: str) -> list[int]:
    with open(path, encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
