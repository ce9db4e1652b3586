"""A private worker: serves one repository to whoever started it, with the caller's rights.

Apart from ``daemon``, so that a command which starts one does not wait for what it never needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from typing import TYPE_CHECKING

from blocksnapd.control import unix_socket
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.service.plans import PlanBook
from blocksnapd.service.pruning import Pruning
from blocksnapd.service.runs import RunBook
from blocksnapd.service.serving import serve, stop_signal
from blocksnapd.service.worker_operations import WorkerOperations
from blocksnapd.service.worker_points import WorkerPoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.store.keys import MaintenanceKey
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.repository import Repository


async def run_worker(
    repository: Repository,
    store: ObjectStore,
    key: MaintenanceKey,
    socket_path: str,
    ended: Callable[[], None] | None,
) -> None:
    """Serve one repository on a private socket until SIGTERM, or until ``ended`` returns.

    Args:
        repository: opened with the caller's key.
        store: the place it is in.
        key: that key.
        socket_path: where to listen.
        ended: blocks until whoever started the worker is gone; None: nobody is waited for, it
            ends once nothing has been asked of it for a while.
    """
    stop = stop_signal()
    clock = SystemClock()
    book = RunBook(clock)
    points = WorkerPoints(repository, store.url, Pruner(store, key, clock.now))
    await points.load()
    operations = WorkerOperations(
        points, book, clock,
        pruning=Pruning(PlanBook(_own_plans()), book),
        verify_runs=functools.partial(VerifyRuns, store, key),
    )  # fmt: skip
    access = unix_socket.access_for(None, None)
    loop = asyncio.get_running_loop()

    def wait_for_end(ended: Callable[[], None]) -> None:
        ended()
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(stop.set)

    async with contextlib.AsyncExitStack() as stack:
        sockets = [unix_socket.bind(socket_path, access)]
        await serve(stack, operations, access, sockets, are_ours=True)
        if ended is None:
            idle = asyncio.create_task(operations.idle())
            idle.add_done_callback(lambda _: stop.set())
        else:
            threading.Thread(
                target=wait_for_end, args=(ended,), name="wait-for-end", daemon=True
            ).start()
        await stop.wait()
        await operations.close()


def _own_plans() -> str:
    """Return where the plans of whoever starts a worker are kept until they are applied."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "blocksnap", "plans")
