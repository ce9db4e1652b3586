"""One drill of a configured volume, in the process that was started for it. Edge.

It alone reads the key that ``drill.key`` names, and ends; the daemon that started it never does.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.service.drilling import Orders, Tell, drill
from blocksnapd.service.worker_points import WorkerPoints
from blocksnapd.store.keys import load_restore
from blocksnapd.store.places import open_store, own_directories
from blocksnapd.store.repository import Repository

if TYPE_CHECKING:
    from blocksnapd.config import Config
    from blocksnapd.control.drill_messages import Drill


def drill_configured(config: Config, volume: str, selector: str = "") -> Drill:
    """Drill a point of a configured volume, the newest if ``selector`` is empty.

    Raises:
        NotFoundError: the configuration has no drill of it, or there is no point.
        BlocksnapError: the repository or the key cannot be read.
    """
    settings = config.volumes.get(volume)
    if settings is None or settings.drill is None or settings.drill.key is None:
        raise NotFoundError(
            f"{config.path} says nothing of a drill of {volume}", effect="Nothing was drilled.",
            hint=f"""Write: [volume."{volume}"] drill = {{ key = "/path/of/restore.key" }}""",
        )  # fmt: skip
    target = config.targets[settings.target]
    key = load_restore(settings.drill.key)
    store = open_store(target.url, target.access)
    repository = Repository.on(store, maintenance=key, restore=key)
    pruner = Pruner(store, key, SystemClock().now)
    points = WorkerPoints(repository, target.url, pruner)
    orders = Orders(
        settings.drill.run, settings.drill.scratch, settings.drill.restores,
        settings.drill.timeout_s, keep_out=own_directories(target.url),
    )  # fmt: skip
    found = asyncio.run(_drill(points, selector or f"latest:{volume}", orders))
    return {**found, "target": settings.target}


async def _drill(points: WorkerPoints, selector: str, orders: Orders) -> Drill:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await points.load()
    return await drill(await points.point(selector), points, orders, Tell(cancelled=stop.is_set))
