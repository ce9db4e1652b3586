"""When the next cycle of a volume is due. Pure: the time is handed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a volume is protected, and how failures are retried; seconds."""

    every_s: float
    retry_first_s: float = 10.0
    retry_factor: float = 2.0
    retry_max_s: float = 300.0


def retry_delay_s(rhythm: Rhythm, failures: int) -> float:
    """Return the wait after ``failures`` (at least 1) failures in a row."""
    # The exponent is bounded before the power, so that years of failures can't overflow it.
    delay = rhythm.retry_first_s * rhythm.retry_factor ** min(failures - 1, 64)
    return min(delay, rhythm.retry_max_s)


def due_in_s(rhythm: Rhythm, *, since_start_s: float | None, failures: int) -> float:
    """Return the seconds until the next cycle may start; 0 when it is due.

    Args:
        rhythm: the volume's.
        since_start_s: seconds since the last cycle started; None if there was none.
        failures: cycles that failed since the last good one.
    """
    if since_start_s is None:
        return 0.0
    interval = retry_delay_s(rhythm, failures) if failures else rhythm.every_s
    return max(0.0, interval - since_start_s)
