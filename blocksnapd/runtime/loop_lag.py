"""How late the event loop is: what blocks it shows here, whoever did it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.ports import Clock

INTERVAL_S: Final = 1.0


async def watch(clock: Clock, note: Callable[[float], None]) -> None:
    """Sleep for ever; tell ``note`` after each time how many seconds too late we woke up."""
    while True:
        due = clock.monotonic() + INTERVAL_S
        await clock.sleep(INTERVAL_S)
        note(max(0.0, clock.monotonic() - due))
