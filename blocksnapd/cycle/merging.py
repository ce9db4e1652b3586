"""The kernel merges a point into its origin: it is there at once, and copied meanwhile. Edge.

    make       a logical volume for the COW device, in the COW space
    convert    with its content in it, it becomes a snapshot of the origin
    begin      lvm2 merges it: from here on the origin reads as the point, and may be mounted
    settle     until all is copied and lvm2 has removed it; also after a crash or a boot

lvm2 knows all of it: an activation after a boot goes on merging where the COW device says, whoever
began it. Names tell the point.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from blocksnapd.cycle import lvm_text, volume_repair
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.view_device import spare_room
from blocksnapd.errors import LvmError, SpaceError, VolumeError
from blocksnapd.units import SECTOR_SIZE, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import LogicalVolume, VolumeName

TAG_OF: Final = "blocksnap_merge="  # and the origin's name
LOOK_S: Final = 0.5
POLL_S: Final = 10.0  # lvm2's own process clears away what was merged, unless it died
MERGING: Final = "S"


def merge_name(point_id: str) -> str:
    """Return the name of the logical volume that is merged."""
    lvm_text.snapshot_name(point_id)  # refuses what cannot be part of a name
    return f"{lvm_text.MERGE_PREFIX}{point_id}"


def device(volume: VolumeName, point_id: str) -> str:
    """Return the path of that volume, and once it is converted of what it shows."""
    return f"/dev/mapper/{lvm_text.dm_name(volume.vg, merge_name(point_id))}"


async def make(lvm: Lvm, volume: VolumeName, point_id: str, size: int) -> int:
    """Make the volume for a COW device of ``size`` bytes; return its bytes. Its content is old.

    Raises:
        SpaceError: the COW space has no room. VolumeError: the origin is not there.
        LvmError, HostError: it failed.
    """
    async with lvm.lock(volume.vg):
        group = await lvm.group(volume.vg)
        origin = next((v for v in group.volumes if v.name == volume.lv), None)
        if origin is None:
            raise VolumeError(f"There is no volume {volume}.")
        free = spare_room(group)
        size = -(-size // origin.extent_size) * origin.extent_size
        if size > free:
            raise SpaceError(
                f"The COW space of {volume.vg!r} has {format_size(max(0, free))} to spare, "
                f"{format_size(size)} are needed.",
                hint="Restore without merging: blocksnapctl restore POINT --in-place",
            )
        argv = [
            "lvcreate", "-y", "--wipesignatures", "n", "--zero", "n", "--size", f"{size}b",
            "--name", merge_name(point_id), "--addtag", f"{TAG_OF}{volume.lv}",
            "--autobackup", "n", "-qq",
            "--config", lvm_text.configuration(udev=lvm.udev), volume.vg,
            f"@{lvm_text.COW_PV_TAG}",
        ]  # fmt: skip
        await lvm.command(argv)
    return size


async def convert(lvm: Lvm, volume: VolumeName, point_id: str, chunk_size: int) -> None:
    """Let the kernel show the finished COW device over the origin; raises as ``make``."""
    words = ["--zero", "n", "--type", "snapshot", "--chunksize", f"{chunk_size}b", str(volume)]
    await _lvconvert(lvm, volume, point_id, *words)


async def begin(lvm: Lvm, volume: VolumeName, point_id: str) -> None:
    """Merge it; the origin must not be open, and reads as the point when this returns.

    Raises:
        LvmError: it does not merge: somebody opened the origin. Others as ``make``.
    """
    await _lvconvert(lvm, volume, point_id, "--background", "--interval", "1", "--merge")
    if remaining(volume) is None and await _ours(lvm, volume):
        raise LvmError(
            f"{volume} was opened just now, so nothing is merged into it.",
            hint="Unmount it and stop what uses it.",
        )


def remaining(volume: VolumeName) -> int | None:
    """Return how many bytes are still to be copied into the origin; None: nothing is merged."""
    with Control() as control:
        targets = control.status(volume.dm) or []
    for target in targets:
        if target.kind == "snapshot-merge":
            words = target.params.split()
            used, _, _ = words[0].partition("/")
            if len(words) != 2 or not (used + words[1]).isdecimal():
                raise LvmError(f"Merging into {volume} failed: the kernel says {target.params}.")
            return max(0, int(used) - int(words[1])) * SECTOR_SIZE
    return None


def is_begun(volume: VolumeName) -> bool:
    """Return whether the kernel shows anything of a merge into ``volume``, or the group's others.

    What it does not show, because nobody activated it, takes room but merges nothing.
    """
    prefix = lvm_text.dm_name(volume.vg, lvm_text.MERGE_PREFIX)
    with Control() as control:
        is_shown = any(name.startswith(prefix) for name in control.names())
    return is_shown or remaining(volume) is not None


async def settle(lvm: Lvm, volume: VolumeName, tell: Callable[[int], None]) -> list[str]:
    """See a merge through, and remove what was never merged; return what was done, in sentences.

    Args:
        lvm: lvm2 on this host.
        volume: the origin.
        tell: called with the bytes that are still to be copied.

    Raises:
        LvmError, HostError: it failed; call again to go on.
    """
    done: list[str] = []
    polled = time.monotonic()
    while True:
        ours = await _ours(lvm, volume)
        if not ours:
            return done
        merging = [v for v in ours if v.attr[0] == MERGING]
        for found in (v for v in ours if v not in merging):
            async with lvm.lock(volume.vg):
                argv = lvm_text.remove_argv(volume.vg, found.name, udev=lvm.udev)
                dm = lvm_text.dm_name(volume.vg, found.name)
                await lvm.guarded(argv, origin=volume.dm, names=(dm,))
                await volume_repair.repair(lvm, volume)
            done.append(f"Removed {volume.vg}/{found.name}, which was never merged.")
        if not merging:
            continue
        left = await asyncio.to_thread(remaining, volume)
        tell(left or 0)
        if not left and time.monotonic() - polled > POLL_S:
            polled = time.monotonic()
            # Nobody cleared away what was merged; or it waits for the origin to be closed.
            await _lvchange(lvm, volume, *(["--refresh"] if left is None else ["--poll", "y"]))
        await asyncio.sleep(LOOK_S)


async def clear_merged(lvm: Lvm, volume: VolumeName) -> list[str]:
    """Let lvm2 clear away what is merged already; return what was done, in sentences.

    As long as it is there no snapshot of the origin can be taken. lvm2's own process does it,
    unless that died, or the host was booted since.

    Raises:
        LvmError, HostError: it failed; call again.
    """
    merging = [v for v in await _ours(lvm, volume) if v.attr[0] == MERGING]
    if not merging or await asyncio.to_thread(remaining, volume) != 0:
        return []
    await _lvchange(lvm, volume, "--poll", "y")
    return [f"{volume} is as {merging[0].name.removeprefix(lvm_text.MERGE_PREFIX)} was."]


async def _lvchange(lvm: Lvm, volume: VolumeName, *words: str) -> None:
    settings = lvm_text.configuration(udev=lvm.udev)
    argv = ["lvchange", *words, "-qq", "--config", settings, str(volume)]
    await lvm.guarded(argv, origin=volume.dm)


async def _ours(lvm: Lvm, volume: VolumeName) -> list[LogicalVolume]:
    every = await lvm.volumes(volume.vg)
    prefix, tag = lvm_text.MERGE_PREFIX, f"{TAG_OF}{volume.lv}"
    return [v for v in every if v.name.startswith(prefix) and tag in v.tags]


async def _lvconvert(lvm: Lvm, volume: VolumeName, point_id: str, *words: str) -> None:
    async with lvm.lock(volume.vg):
        name = merge_name(point_id)
        settings = lvm_text.configuration(udev=lvm.udev)
        argv = ["lvconvert", "-y", "-qq", "--config", settings]
        argv += [*words, f"{volume.vg}/{name}"]
        dm = lvm_text.dm_name(volume.vg, name)
        await lvm.guarded(argv, origin=volume.dm, names=(dm,))
