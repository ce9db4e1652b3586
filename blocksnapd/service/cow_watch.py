"""Watches the COW devices of a volume: what is told of them, and what follows. Edge.

A look every ``WATCH_INTERVAL_S``, by ioctl, also while a cycle is at work: its old snapshot fills
until it is removed, and its new one does already. What to do is decided in ``cycle.cow_sizing``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.cycle.cow_sizing import (
    INTERVALS_MAX,
    Fill,
    Forecast,
    Interval,
    advice,
    advised_size,
    answer,
    cow_size_max,
)
from blocksnapd.errors import BlocksnapError
from blocksnapd.service.reporting import as_known
from blocksnapd.units import format_size

if TYPE_CHECKING:
    from blocksnapd.config import Volume
    from blocksnapd.control.cow_messages import CowUse
    from blocksnapd.metrics import Metrics
    from blocksnapd.ports import Clock
    from blocksnapd.service.opened import Opened, Watch
    from blocksnapd.service.reporting import Say

log = logging.getLogger(__name__)

WATCH_INTERVAL_S = 2.0
GROW_AGAIN_S = 30.0  # after growing was not possible


class _Seen:
    """One snapshot's COW device as seen so far; times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.fill = Fill()
        self.forecast: Forecast | None = None
        self.since = now
        self.is_lost = False

    @property
    def share(self) -> float:
        return self.fill.used / self.fill.size if self.fill.size else 0.0


class Pressure(NamedTuple):
    """The disk under a COW space is below its reserve: bytes free, reserved, and used by COW."""

    free: int
    reserve: int
    used: int


class CowWatch:
    """Looks at one volume's COW devices and at the disk under them. Event loop only.

    ``pressure`` is there while giving up the tracking would bring the reserve back.
    """

    def __init__(self, settings: Volume, metrics: Metrics, say: Say, clock: Clock) -> None:
        self.use: CowUse | None = None
        self.pressure: Pressure | None = None
        self._settings = settings
        self._metrics = metrics
        self._say = say
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._intervals: deque[Interval] = deque(maxlen=INTERVALS_MAX)
        self._trouble = ""
        self._no_growth_until = 0.0

    async def look(self, opened: Opened | None, *, can_rotate: bool) -> bool:
        """Look, and grow what has to; say whether it fills too fast to wait for the interval.

        ``can_rotate`` is whether a cycle would begin if this says so.
        """
        self.pressure = None
        if opened is None or opened.watch is None:
            return False
        try:
            fills = await self._look(opened, opened.watch, can_rotate=can_rotate)
        except Exception as caught:  # the rhythm goes on without it
            said = as_known(caught, self._settings.name).message
            if said != self._trouble:
                log.warning("%s: COW use is not known: %s", self._settings.name, said)
            self._trouble = said
            return False
        self._trouble = ""
        return fills

    async def watch(self, opened: Opened) -> None:
        """Look while a cycle is at work, until cancelled."""
        while True:
            await self._clock.sleep(WATCH_INTERVAL_S)
            await self.look(opened, can_rotate=False)

    async def _look(self, opened: Opened, watch: Watch, *, can_rotate: bool) -> bool:
        newest, pending = opened.catalogue.newest(), opened.volume.journal.record.pending
        ids = [newest["id"]] if newest is not None else []
        ids += [pending.point_id] if pending is not None and pending.point_id not in ids else []
        self._forget_others(ids)
        fills = False
        for point_id in ids:
            fills |= await self._look_at(watch, point_id, can_rotate=can_rotate)
        self._tell(opened)
        room = await asyncio.to_thread(watch.disk_room)
        return fills or self._is_scarce(room)

    async def _look_at(self, watch: Watch, point_id: str, *, can_rotate: bool) -> bool:
        use = await asyncio.to_thread(watch.cow_use, point_id)
        now = self._clock.monotonic()
        if use is None:
            seen = self._seen.get(point_id)
            if seen is not None and await asyncio.to_thread(watch.is_given_up, point_id):
                self._note_loss(seen)
            else:
                self._seen.pop(point_id, None)  # it was removed
            return False
        seen = self._seen.setdefault(point_id, _Seen(now))
        cow = self._settings.cow
        seen.forecast = seen.fill.see(now, *use)
        if cow is None or cow.size is None:  # as large as it can ever need: it is never full
            seen.forecast = Forecast(seen.forecast.rate, None)
        if cow is None:
            return False
        found = answer(
            *use, seen.forecast.full_in, full_at=cow.full_at, can_rotate=can_rotate,
            can_grow=cow.size is not None and now >= self._no_growth_until,
        )  # fmt: skip
        if found.grow:
            await self._grow(watch, point_id, seen.forecast.rate)
        return found.rotate

    async def _grow(self, watch: Watch, point_id: str, rate: float) -> None:
        name = self._settings.name
        trouble, by = "its limits, or the room in its space, do not allow it", 0
        try:
            by = await watch.grow(point_id, rate)
        except BlocksnapError as error:
            trouble = error.sentences()
        if by:
            self._metrics.cow_extended(name)
            said = f"{name}: the COW device of {point_id} was made {format_size(by)} larger."
            self._say("cow-extended", said, severity="info", volume=name, data={"bytes": by})
            return
        if self._no_growth_until == 0.0:
            said = (
                f"{name}: the COW device of {point_id} fills, and cannot grow: {trouble}. When it "
                "is full, tracking is lost and the next cycle compares the whole volume."
            )
            self._say("cow-cannot-grow", said, severity="warning", volume=name, data={})
        self._no_growth_until = self._clock.monotonic() + GROW_AGAIN_S

    def _note_loss(self, seen: _Seen) -> None:
        if seen.is_lost:
            return
        seen.is_lost = True
        name = self._settings.name
        self._say(
            "cow-overflow",
            f"{name}: its COW device was full or failed, so the kernel tracks no more. The volume "
            "is not harmed; the next cycle compares it as a whole.",
            severity="error", volume=name, data={"size": seen.fill.size},
        )  # fmt: skip

    def _forget_others(self, ids: list[str]) -> None:
        """Note of each snapshot that is gone what it came to."""
        for point_id in set(self._seen) - set(ids):
            seen = self._seen.pop(point_id)
            used = seen.fill.size if seen.is_lost else seen.fill.used
            self._intervals.append(Interval(self._clock.monotonic() - seen.since, used))
            self._no_growth_until = 0.0

    def _tell(self, opened: Opened) -> None:
        """Tell of the device that is fullest; of a lost one that it is full."""
        if not self._seen:
            self.use = None
            return
        seen = max(self._seen.values(), key=lambda s: (s.is_lost, s.share))
        size = seen.fill.size
        used = size if seen.is_lost else seen.fill.used
        rate, full_in = seen.forecast or (0.0, None)
        rate, full_in = (0.0, None) if seen.is_lost else (rate, full_in)
        advised, said = self._advice(opened, size)
        self.use = {
            "size": size, "used": used, "rate": rate, "full_in": full_in, "is_lost": seen.is_lost,
            "advised": advised, "advice": said,
        }  # fmt: skip
        full_at = None if full_in is None else self._clock.now() + full_in
        self._metrics.cow(self._settings.name, size=size, used=used, full_at=full_at)

    def _advice(self, opened: Opened, size: int) -> tuple[int | None, str]:
        newest, cow = opened.catalogue.newest(), self._settings.cow
        if newest is None or cow is None:
            return None, ""
        useful, every_s = cow_size_max(newest["size"], cow.chunk_size), self._settings.every_s
        advised = advised_size(self._intervals, every_s=every_s, useful=useful)
        return advised, advice(size, advised, every_s=every_s, useful=useful) if cow.size else ""

    def _is_scarce(self, room: tuple[int, int] | None) -> bool:
        """Whether the disk under the devices gets full, and a cycle would give much back."""
        if room is None or self._settings.cow is None:
            return False
        free, reserve = room
        self._metrics.cow_disk_free(self._settings.cow.space, free)
        used = sum(seen.fill.used for seen in self._seen.values())
        if free < reserve <= free + used:
            self.pressure = Pressure(free, reserve, used)
        return free < 2 * reserve and used > reserve // 4
