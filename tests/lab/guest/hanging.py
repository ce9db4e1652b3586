"""blocksnapd, and two ways to make it hang: SIGUSR1 its scheduler, SIGUSR2 its event loop.

All else is the daemon itself. After SIGUSR1 requests are answered as before, and no cycle comes.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

from blocksnapd.__main__ import main
from blocksnapd.service.volume_task import VolumeTask

FOR_EVER_S = 1e6
assert hasattr(VolumeTask, "_is_held"), "the scheduler asks something else at each of its turns now"


def hang_the_scheduler(*_: object) -> None:
    async def hang(_task: VolumeTask) -> bool:
        await asyncio.sleep(FOR_EVER_S)
        return False

    VolumeTask._is_held = hang  # type: ignore[method-assign]


def hang_the_loop(*_: object) -> None:
    time.sleep(FOR_EVER_S)  # signals are handled in the thread of the loop


signal.signal(signal.SIGUSR1, hang_the_scheduler)
signal.signal(signal.SIGUSR2, hang_the_loop)
sys.exit(main())
