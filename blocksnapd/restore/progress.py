"""How far a restore is, how fast, and when it will be done. Pure: the clock is handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Phase: TypeAlias = Literal["clear", "check", "write", "sync", "verify", "done"]

REPORT_EVERY_S = 0.2
SMOOTHING_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a restore.

    ``done`` and ``total`` are bytes of work over all phases (bytes cleared, written and read
    back), ``rate`` is smoothed bytes/s, ``eta_s`` seconds to the end or None while unknown.
    """

    phase: Phase
    done: int
    total: int
    rate: float
    eta_s: float | None
    elapsed_s: float


class Meter:
    """Counts bytes and tells the progress a few times per second."""

    def __init__(
        self, total: int, report: Callable[[Progress], None], clock: Callable[[], float]
    ) -> None:
        """Start at 0 of ``total`` bytes; ``clock`` returns seconds that never jump."""
        self._total = total
        self._report = report
        self._clock = clock
        self._phase: Phase = "write"
        self._done = 0
        self._rate = 0.0
        self._start = self._reported = clock()
        self._reported_done = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def enter(self, phase: Phase) -> None:
        """Go over to ``phase`` and tell so at once."""
        self._phase = phase
        self._tell(self._clock())

    def advance(self, size: int) -> None:
        """Count ``size`` bytes of work as done."""
        self._done += size
        now = self._clock()
        if now - self._reported >= REPORT_EVERY_S:
            self._tell(now)

    def expect(self, total: int) -> None:
        """Correct the total, once more is known of the work ahead."""
        self._total = total

    def _tell(self, now: float) -> None:
        self._smooth(now)
        self._report(
            Progress(
                phase=self._phase,
                done=self._done,
                total=self._total,
                rate=self._rate,
                eta_s=self._eta(),
                elapsed_s=now - self._start,
            )
        )

    def _smooth(self, now: float) -> None:
        passed = now - self._reported
        if passed <= 0:
            return
        recent = (self._done - self._reported_done) / passed
        first = self._rate == 0
        weight = 1.0 if first else 1 - math.exp(-passed / SMOOTHING_S)
        self._rate += (recent - self._rate) * weight
        self._reported, self._reported_done = now, self._done

    def _eta(self) -> float | None:
        if self._done >= self._total:
            return 0.0
        return (self._total - self._done) / self._rate if self._rate > 0 else None
