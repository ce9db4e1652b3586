"""What a run of a worker does: prepared from a request, begun once it has a run to tell."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from blocksnapd.service.runs import LiveRun


@dataclass(frozen=True, slots=True)
class Job:
    """One.

    Attributes:
        volume: whose it is, as the run tells it; "" when of several.
        work: does it, and notes in the run how it goes; raises what the run fails of.
        cancel: asks it to end.
    """

    volume: str
    work: Callable[[LiveRun], Awaitable[None]]
    cancel: Callable[[], None]

    @classmethod
    def in_thread(cls, volume: str, work: Callable[[LiveRun, Callable[[], bool]], None]) -> Self:
        """Return a job that does ``work``, which blocks, in a thread.

        Its second argument says whether it was asked to end; it then raises CancelledRunError.
        """
        stop = threading.Event()
        return cls(volume, lambda run: asyncio.to_thread(work, run, stop.is_set), stop.set)
