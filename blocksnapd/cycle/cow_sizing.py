"""How a COW device fills, what to do about it, and how large it should be. Pure.

Three answers, in this order: a cycle at once, which gives back all that is used; growth, where a
cycle cannot help in time; and when neither was enough the kernel gives the snapshot up, and the
volume is compared as a whole. Growing is second because each time writers are held for some tenths
of a second, and because what is used stays used until a cycle ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blocksnapd.units import MIB, format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

LONG_S, SHORT_S = 60.0, 8.0  # a steady rate, and a burst that just began
SOON_S = 20.0  # a cycle that starts now is not sure to end before this
GROW_AHEAD_S = 10.0  # a step must hold what is written until the next one
MARGIN = 1.5
INTERVALS_MAX = 288  # a day of a point every five minutes


class Forecast(NamedTuple):
    """``rate`` in bytes a second; ``full_in`` seconds, None while it does not fill."""

    rate: float
    full_in: float | None


class Fill:
    """What was seen of one COW device, over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self.size = 0

    def see(self, now: float, used: int, size: int) -> Forecast:
        """Note a look at ``now`` (seconds); return what is to be expected."""
        self.size = size
        self._seen.append((now, used))
        while now - self._seen[0][0] > LONG_S:
            self._seen.popleft()
        rate = max(self._rate(LONG_S), self._rate(SHORT_S))
        return Forecast(rate, max(0.0, (size - used) / rate) if rate > 0 else None)

    @property
    def used(self) -> int:
        """The bytes used at the last look; 0 before the first."""
        return self._seen[-1][1] if self._seen else 0

    def _rate(self, within_s: float) -> float:
        last_at, last = self._seen[-1]
        first_at, first = next(s for s in self._seen if last_at - s[0] <= within_s)
        return max(0.0, (last - first) / (last_at - first_at)) if last_at > first_at else 0.0


class Answer(NamedTuple):
    """What to do now: a cycle, growth, both, or neither."""

    rotate: bool
    grow: bool


def answer(
    used: int, size: int, full_in: float | None, *, full_at: float, can_rotate: bool, can_grow: bool
) -> Answer:
    """Return what to do about a COW device.

    Args:
        used: bytes of it.
        size: its bytes.
        full_in: seconds until it is full if it goes on like this; None: it does not fill.
        full_at: the share of ``size`` from which something has to be done.
        can_rotate: whether a cycle may start now.
        can_grow: whether there may be room to grow.
    """
    is_soon = full_in is not None and full_in < SOON_S
    if used <= full_at * size and not is_soon:
        return Answer(rotate=False, grow=False)
    return Answer(rotate=can_rotate, grow=can_grow and (is_soon or not can_rotate))


@dataclass(frozen=True, slots=True)
class Room:
    """What growth has to keep to, in bytes.

    ``largest`` is the size that a COW device may have at most, ``free`` what the physical volumes
    it may lie on have left, ``reserve`` what must stay free of that.
    """

    largest: int
    free: int
    reserve: int
    extent: int


def growth(size: int, wanted: int, rate: float, room: Room) -> int:
    """Return by how many bytes a COW device of ``size`` grows, whole extents; 0: it cannot.

    ``wanted`` is the configured step; where it fills by ``rate`` bytes a second so fast that this
    would not last until the next look, the step is larger.
    """
    step = max(wanted, int(rate * GROW_AHEAD_S))
    step = -(-step // room.extent) * room.extent
    limit = min(room.largest - size, room.free - room.reserve)
    return max(0, min(step, limit // room.extent * room.extent))


def cow_size_max(origin_size: int, chunk_size: int) -> int:
    """Return the bytes of COW space with which a snapshot of the origin can never overflow.

    One header chunk, one data chunk for each of the origin's, and an exception area for every
    ``chunk_size / 16`` of these, with one more to end the table.
    """
    chunks = -(-origin_size // chunk_size)
    areas = chunks // (chunk_size // 16) + 1
    return (1 + areas + chunks) * chunk_size


class Interval(NamedTuple):
    """One life of a COW device: so many bytes were used in so many seconds."""

    seconds: float
    used: int


def advised_size(intervals: Iterable[Interval], *, every_s: float, useful: int) -> int | None:
    """Return the bytes a COW device should have; None: nothing is known yet.

    What the fastest interval wrote, had it lasted as long as configured and half as much again:
    a cycle that fails once, or ships for long, must not cost the tracking. Never more than what a
    volume can need at all, ``useful``. A short interval, such as one that filled early, counts
    with its rate: that is what a COW device of the right size must hold.
    """
    rates = [(i.used / i.seconds, i.used) for i in intervals if i.seconds >= 1]
    if not rates:
        return None
    worst = max(max(rate * every_s, used) for rate, used in rates)
    return min(useful, -(-int(MARGIN * worst) // MIB) * MIB)


def advice(size: int, advised: int | None, *, every_s: float, useful: int) -> str:
    """Return a sentence about the configured size; empty when it is right, or nothing is known."""
    if advised is None or size >= min(advised, useful):
        return ""
    every = format_duration(every_s)
    what = "as large as it can ever need, so leave cow.size out" if advised >= useful else "larger"
    return (
        f"cow.size should be {format_size(advised)}, it is {format_size(size)}: at the rate seen, "
        f"{every} between points need that much. Make it {what}."
    )
