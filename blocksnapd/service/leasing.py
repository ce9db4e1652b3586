"""What a volume's daemon answers whoever restores the volume in place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError, RefusedError, StoreError

if TYPE_CHECKING:
    from blocksnapd.control.messages import Who
    from blocksnapd.control.pause_messages import InPlaceRequest, Paused
    from blocksnapd.service.volume_task import VolumeTask

_UNTOUCHED = "Nothing was written to the volume."


async def hear(task: VolumeTask, request: InPlaceRequest, who: Who) -> Paused:
    """Return what holds the volume's schedule after ``request``.

    Raises:
        RefusedError: its driver does not track, so nothing tells what was written since a point.
        StoreError: it is not open. BusyError: somebody else restores it.
        NotFoundError: that lease is over.
    """
    pausing, lease = task.pausing, request.get("id", "")
    if not lease:
        _check_can(task)
        told = await asyncio.to_thread(pausing.begin, request.get("point", ""), who)
        task.wake()
        return {**told, **await _space(task)}
    told = await asyncio.to_thread(
        pausing.note, lease, safety=request.get("safety"), writing=request.get("writing")
    )
    if request.get("done", False):
        await asyncio.to_thread(pausing.end, lease)
        task.wake()
    return {**told, **await _space(task)}


async def end_views(task: VolumeTask) -> list[str]:
    """End what shows the volume of ``task`` as it was; return what was done, in sentences.

    Raises:
        RefusedError: its driver takes no snapshots. StoreError: it is not open.
        BusyError: a view is in use. LvmError, HostError: call again to go on.
    """
    _check_can(task)
    watch = task.opened.watch if task.opened else None
    return await watch.end_views() if watch else []


def _check_can(task: VolumeTask) -> None:
    name = task.settings.name
    if task.settings.cow is None:
        raise RefusedError(
            f"{name} is read by driver {task.settings.driver}, which tracks no changes",
            effect=_UNTOUCHED,
            hint=f"Stop what uses it and restore all of it: blocksnapctl restore POINT --to {name}",
        )
    if task.opened is None:
        cause = task.cause["message"] if task.cause else "it is not open yet"
        raise StoreError(
            f"{name} is not protected right now: {cause}", effect=_UNTOUCHED,
            hint="Without a new point a restore in place could not be undone. Correct that, or "
            "restore to another device: --to PATH",
        )  # fmt: skip


async def _space(task: VolumeTask) -> Paused:
    """Return how much can be written before the COW space's disk is short, and where that is."""
    watch = task.opened.watch if task.opened else None
    if watch is None:
        return {"room": None, "directory": ""}
    try:
        room = await asyncio.to_thread(watch.disk_room)
    except (BlocksnapError, OSError):
        room = None
    left = None if room is None else max(0, room[0] - room[1])
    return {"room": left, "directory": watch.directory}
