"""``blocksnapd export NAME``: the points of a target over NBD, in a process of its own. Edge."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.service.exporting import Exporting
from blocksnapd.service.runs import RunBook
from blocksnapd.service.worker_points import WorkerPoints
from blocksnapd.store.keys import load_restore
from blocksnapd.store.places import open_store
from blocksnapd.store.repository import Repository

if TYPE_CHECKING:
    from blocksnapd.config import Config, Export
    from blocksnapd.control.messages import RunRequest

LOOK_S: Final = 1.0


def export_configured(config: Config, name: str) -> None:
    """Serve what ``[export.NAME]`` says until SIGTERM, or until whoever started this is gone.

    Raises:
        NotFoundError: nothing of that name is configured.
        BlocksnapError: the repository or the key cannot be read, or the place is taken.
    """
    settings = config.exports.get(name)
    if settings is None:
        raise NotFoundError(
            f"{config.path} says nothing of an export {name}", effect="Nothing is exported.",
            hint=f"Write: [export.{name}] target = ..., key = ..., unix = ...",
        )  # fmt: skip
    target, key = config.targets[settings.target], load_restore(settings.key)
    store = open_store(target.url, target.access)
    repository = Repository.on(store, maintenance=key, restore=key)
    clock = SystemClock()
    points = WorkerPoints(repository, settings.target, Pruner(store, key, clock.now))
    asyncio.run(_serve(points, request_for(settings), RunBook(clock)))


def request_for(settings: Export) -> RunRequest:
    """Return what the settings ask for, as a client would."""
    request: RunRequest = {"kind": "export", "writable": settings.writable}
    if settings.unix is not None:
        request["unix"] = settings.unix
    if settings.listen is not None:
        host, port = settings.listen
        request["listen"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if settings.certificate is not None and settings.certificate_key is not None:
        request["certificate"] = settings.certificate
        request["certificate_key"] = settings.certificate_key
    if settings.client_ca is not None:
        request["client_ca"] = settings.client_ca
    return request


async def _serve(points: WorkerPoints, request: RunRequest, book: RunBook) -> None:
    parent = os.getppid()
    await points.load()
    exporting = await Exporting.prepare(request, points)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, exporting.end)
    serving = asyncio.create_task(exporting.serve(book.queue("export", "")))
    while not serving.done() and os.getppid() == parent:
        await asyncio.wait([serving], timeout=LOOK_S)
    exporting.end()
    await serving
