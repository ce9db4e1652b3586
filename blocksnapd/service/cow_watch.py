"""Watches how full the COW device of a volume is: what is told of it, and what follows. Edge."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.service.reporting import as_known

if TYPE_CHECKING:
    from blocksnapd.config import Volume
    from blocksnapd.control.messages import CowUse
    from blocksnapd.metrics import Metrics
    from blocksnapd.service.opened import Opened

log = logging.getLogger(__name__)

# How often the COW device's fill is looked at, by ioctl, and how full makes a cycle due at once.
WATCH_INTERVAL_S = 2.0
COW_FILL_EARLY = 0.7


class Pressure(NamedTuple):
    """The disk under a COW space is below its reserve: bytes free, reserved, and used by COW."""

    free: int
    reserve: int
    used: int


class CowWatch:
    """Looks at one volume's COW device and at the disk under it. Event loop only.

    ``pressure`` is there while giving up the tracking would bring the reserve back.
    """

    def __init__(self, settings: Volume, metrics: Metrics) -> None:
        self.use: CowUse | None = None
        self.pressure: Pressure | None = None
        self._settings = settings
        self._metrics = metrics
        self._trouble = ""

    async def look(self, opened: Opened | None) -> bool:
        """Look at the COW device; say whether it fills too fast to wait for the interval."""
        self.pressure = None
        newest = opened.catalogue.newest() if opened else None
        if opened is None or opened.watch is None or newest is None:
            return False
        try:
            use = await asyncio.to_thread(opened.watch.cow_use, newest["id"])
            room = await asyncio.to_thread(opened.watch.disk_room)
        except Exception as caught:  # the rhythm goes on without it
            said = as_known(caught, self._settings.name).message
            if said != self._trouble:
                log.warning("%s: COW use is not known: %s", self._settings.name, said)
            self._trouble = said
            return False
        self._trouble = ""
        return self._note(use, room)

    def _note(self, use: tuple[int, int] | None, room: tuple[int, int] | None) -> bool:
        fills, used = False, 0
        if use is not None:
            used, size = use
            self.use = {"size": size, "used": used}
            self._metrics.cow(self._settings.name, size=size, used=used)
            fills = used > COW_FILL_EARLY * size
        if room is not None and self._settings.cow is not None:
            free, reserve = room
            self._metrics.cow_disk_free(self._settings.cow.space, free)
            # A cycle gives back what the COW device uses: worth it only if that is much.
            fills = fills or (free < 2 * reserve and used > reserve // 4)
            if free < reserve <= free + used:
                self.pressure = Pressure(free, reserve, used)
        return fills
