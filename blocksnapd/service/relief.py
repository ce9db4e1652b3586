"""Gives tracking up before it fills the host's disk while no point can be made. Edge.

A cycle sees to the reserve of the disk under its COW space before it takes a snapshot. While the
target is away it does not get that far, and the snapshot that tracks grows with every write.
Without it nothing of the host is at risk, and the next point compares the volume as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from blocksnapd.service.reporting import as_known
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from blocksnapd.service.cow_watch import Pressure
    from blocksnapd.service.opened import Opened
    from blocksnapd.service.reporting import Say

log = logging.getLogger(__name__)

REASON = "cow-reserve"


class Relief:
    """Of one volume; ``compare`` is why the next point has to compare, empty: it need not."""

    def __init__(self, volume: str, say: Say) -> None:
        self.compare = ""
        self._volume, self._say = volume, say
        self._trouble = ""

    def end(self) -> None:
        """A point was made: tracking goes on from it."""
        self.compare = ""

    async def give(self, opened: Opened, pressure: Pressure) -> None:
        """Remove the volume's snapshots; what fails is logged, and tried at the next look."""
        parts = opened.volume
        try:
            snapshots = (await parts.source.observe()).snapshots
            for snapshot in snapshots:
                await parts.source.remove(snapshot.point_id)
            cut = parts.journal.record.cut
            await asyncio.to_thread(lambda: parts.journal.end(cut=cut))
        except Exception as caught:
            said = as_known(caught, self._volume).message
            if said != self._trouble:
                log.warning("%s: its tracking cannot be given up: %s", self._volume, said)
            self._trouble = said
            return
        self._trouble = ""
        if not snapshots:
            return
        self.compare = REASON
        self._say(
            "tracking-dropped",
            f"{self._volume}: the disk under its COW space has {format_size(pressure.free)} free, "
            f"less than its reserve of {format_size(pressure.reserve)}, and no point can be made. "
            f"Its tracking was given up, which frees {format_size(pressure.used)}. The volume is "
            "not harmed; the next point compares it as a whole and ships only what differs.",
            severity="error",
            volume=self._volume,
            data={"free": pressure.free, "reserve": pressure.reserve, "used": pressure.used},
        )
