"""A recorded cycle as a change source: the daemon's own pipeline, without a device-mapper.

    before, after, cow (see images.py)  →  snapshots  →  Cycle  →  repository

What reads a live snapshot reads these files: the exception table, the old content that proves the
point before, the content to ship. Only the snapshots themselves are there already.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blocksnapd.cycle.journal import Journal
from blocksnapd.cycle.lvm_text import VolumeName, snapshot_name
from blocksnapd.cycle.rotation import Asked
from blocksnapd.cycle.snapshot_content import SnapshotContent
from blocksnapd.model import HostView, SeenSnapshot, Taken
from blocksnapd.parse.cow_device import CowDevice
from blocksnapd.parse.extents import merge_chunks
from blocksnapd.pipeline import Cycle
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.ship.fingerprints import FingerprintStore
from blocksnapd.shipping import Volume

if TYPE_CHECKING:
    from blocksnapd.model import RestorePoint
    from blocksnapd.ports import PointStore
    from blocksnapd.ship.shipper import Progress
    from tests.bench.images import Recording

VOLUME_ID = "recorded"
BLOCK_SIZE = 4096


class _RecordedContent(SnapshotContent):
    """Snapshots that are files of a directory, named as their devices would be."""

    def __init__(self, directory: str) -> None:
        super().__init__(VolumeName("vg", "recorded"), CowDevice, merge_chunks)
        self._directory = directory

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _check_status(self, point_id: str) -> None:
        """No kernel is asked: what was recorded is whole."""


class RecordedSource:
    """A ``ChangeSource`` over a recording: ``before`` is taken first, then ``after``."""

    driver = "lvm"
    tracks = True
    consistency = "crash"

    def __init__(self, recording: Recording, directory: str) -> None:
        """Show the recording's files as snapshots in ``directory``, which is new."""
        os.makedirs(directory)
        self._recording, self._directory = recording, directory
        self._content = _RecordedContent(directory)
        self._taken: list[str] = []
        os.symlink(recording.before, os.path.join(directory, "recorded"))

    async def observe(self, *, again: bool = False) -> HostView:
        """Show what was taken and not removed."""
        seen = tuple(SeenSnapshot(snapshot_name(i), i, "good") for i in self._taken)
        return HostView(VOLUME_ID, os.stat(self._recording.before).st_size, seen)

    async def repair(self) -> list[str]:
        """Do nothing: nothing is half done."""
        return []

    async def take(self, point_id: str) -> Taken:
        """Show ``before``, later ``after``, as the snapshot of ``point_id``."""
        recorded = self._recording
        image = recorded.after if self._taken else recorded.before
        path = os.path.join(self._directory, snapshot_name(point_id))
        os.symlink(image, path)
        # The newer snapshot's own table is read by none: that it is whole is all that is asked.
        os.symlink(recorded.cow, f"{path}-cow")
        self._taken.append(point_id)
        return Taken(point_id, datetime.now(UTC), 0.0, 0.0)

    async def remove(self, point_id: str) -> None:
        """Forget a snapshot."""
        self._content.close(point_id)
        self._taken.remove(point_id)

    def __getattr__(self, name: str) -> object:
        """Read as the source of live snapshots does: open_snapshot, changes, saved, check_valid."""
        return getattr(self._content, name)


class Reporter:
    """Adds up what the phases took, in seconds."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    def step(self, name: str) -> None:
        """Hear of a step."""

    def phase(self, name: str, seconds: float) -> None:
        """Add to the phase."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds

    def progress(self, progress: Progress) -> None:
        """Hear of progress."""

    def event(self, kind: str, message: str, **_: object) -> None:
        """Nothing noteworthy may happen here.

        Raises:
            RuntimeError: something did.
        """
        raise RuntimeError(f"{kind}: {message}")


class Replay:
    """A volume whose cycles run over a recording, into ``store``; state in ``directory``."""

    def __init__(self, recording: Recording, store: PointStore, directory: str) -> None:
        journal = Journal.open(directory, volume_id=VOLUME_ID, volume_name="recorded")
        source = RecordedSource(recording, os.path.join(directory, "snapshots"))
        fingerprints = FingerprintStore(os.path.join(directory, "fingerprints"))
        self._volume = Volume(
            "recorded", VOLUME_ID, BLOCK_SIZE, source, store, fingerprints, journal, SystemClock()
        )

    def cycle(self) -> tuple[RestorePoint, dict[str, float]]:
        """Run the next cycle; return its point and the seconds of its phases."""
        reporter = Reporter()
        cycle = Cycle(self._volume, reporter)
        asyncio.run(cycle.run(Asked(due=True)))
        return cycle.committed[-1], reporter.phases
