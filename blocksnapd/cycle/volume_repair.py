"""Finds and repairs what interrupted commands and crashes left around one origin. Edge.

    seen                                             done
    ──────────────────────────────────────────────── ───────────────────────────────────────────
    origin (or what is under it) suspended           resume forward, bottom-up
    LV of ours that is no live snapshot              lvremove
    device node of ours without an LV                remove the device
    nodes of a failed activation (-missing, -cow)    remove the devices
    origin with a table loaded but never resumed     clear that table
    origin layered for snapshots that are gone       lvchange --refresh, under the guard
    ``-real`` that nobody uses                       remove the device
    snapshot the kernel gave up                      told; the rotation removes it

Every step looks first, so that a repair run twice does nothing the second time. Names are read
before the report of lvm2: a snapshot that is just being taken is then never seen as an orphan.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocksnapd.cycle import lvm_text
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.cycle.dm_stack import Stack, find_stack, snapshot_numbers
from blocksnapd.errors import BlocksnapError

if TYPE_CHECKING:
    from blocksnapd.cycle.lvm import Lvm
    from blocksnapd.cycle.lvm_text import LogicalVolume, VolumeName

_MERGING = "S"  # of lv_attr: somebody rolls the origin back to it just now
_COMMANDS = ("lvm", "lvcreate", "lvremove", "lvchange", "lvextend", "lvconvert", "vgchange")
_LOOK_S = 0.05
_LAYER = re.compile(r"-(?:cow|real|missing_\d+_\d+)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. ``fix`` is what to do, or what ``--fix`` does."""

    code: str
    what: str
    effect: str
    fix: str
    fixable: bool = True


@dataclass(frozen=True, slots=True)
class Remains:
    """What of ours, around one origin, is not whole."""

    suspended: tuple[str, ...]
    half: tuple[LogicalVolume, ...]
    invalid: tuple[LogicalVolume, ...]
    orphans: tuple[str, ...]
    inactive: bool
    loaded: bool
    layered: bool
    unused_real: bool


async def look(lvm: Lvm, volume: VolumeName) -> Remains:
    """See what is not whole around one origin; changes nothing.

    Raises:
        VolumeError: the volume does not exist. LvmError, DeviceMapperError: no answer.
    """
    before = await asyncio.to_thread(_our_devices, volume.vg)
    volumes = await lvm.volumes(volume.vg)
    return await asyncio.to_thread(_remains, volume, volumes, before)


async def resume(lvm: Lvm, volume: VolumeName) -> list[str]:
    """Make the origin writable if a dead command left it suspended; say so. Ioctls only.

    Raises:
        DeviceMapperError: the origin is still suspended.
    """
    await asyncio.to_thread(_let_commands_end, volume.dm, lvm.suspend_s_max)
    names = await asyncio.to_thread(_our_devices, volume.vg)
    tops = tuple(name for name in names if not _LAYER.search(name))
    resumed = await lvm.resume(volume.dm, tops)
    return [f"Resumed {', '.join(resumed)}: {volume} is writable again."] if resumed else []


async def repair(lvm: Lvm, volume: VolumeName) -> list[str]:
    """Repair every half-done state around one origin; return what was done, in sentences.

    The origin is resumed before anything else, and before lvm2 is asked.

    Raises:
        DeviceMapperError: the origin is still suspended.
        LvmError, BusyError: something of ours cannot be removed yet.
    """
    done = await resume(lvm, volume)
    remains = await look(lvm, volume)
    for half in remains.half:
        await _remove_half(lvm, volume, half.name)
        done.append(f"Removed {half.vg}/{half.name}, left by an interrupted command.")
    if done:
        remains = await look(lvm, volume)
    if remains.layered and not remains.suspended:
        argv = lvm_text.pv_argv("lvchange", "--refresh", str(volume), udev=lvm.udev)
        await lvm.guarded(argv, origin=volume.dm)
        done.append(f"Took the layer for snapshots off {volume}: it has none any more.")
        remains = await look(lvm, volume)
    return done + await asyncio.to_thread(_tidy, volume, remains)


async def examine(lvm: Lvm, volume: VolumeName) -> list[Finding]:
    """Tell what is not whole around one origin; changes nothing.

    Raises:
        VolumeError: the volume does not exist. LvmError, DeviceMapperError: no answer.
    """
    return list(findings(volume, await look(lvm, volume)))


def findings(volume: VolumeName, remains: Remains) -> list[Finding]:
    """Put ``remains`` into words."""
    found = []
    if remains.suspended:
        found.append(
            Finding(
                "SUSPENDED",
                f"{volume} is suspended ({', '.join(remains.suspended)}).",
                "Every reader and writer of it waits.",
                "Resume it, bottom-up.",
            )
        )
    found += [
        Finding(
            "HALF", f"{v.vg}/{v.name} is no whole snapshot ({v.attr}).",
            "It takes room and tracks nothing.", "Remove it.",
        )
        for v in remains.half
    ]  # fmt: skip
    found += [
        Finding(
            "ORPHAN", f"The device {name} belongs to no logical volume.",
            "It can stand in the way of activating or removing volumes.", "Remove the device.",
        )
        for name in remains.orphans
    ]  # fmt: skip
    if remains.loaded or remains.layered or remains.unused_real:
        found.append(
            Finding(
                "LOADED",
                f"{volume} carries the rest of a snapshot that was never finished.",
                "None yet; the next command could put it into effect.",
                "Clear the loaded table and remove the unused -real device.",
            )
        )
    found += [
        Finding(
            "INVALID", f"{v.vg}/{v.name} was given up by the kernel: its COW space failed.",
            "Changes since are not tracked; the next run compares the whole volume.",
            "Nothing to do: the next run removes it. Give the COW space more room.",
            fixable=False,
        )
        for v in remains.invalid
    ]  # fmt: skip
    return found


def point_of_device(vg: str, name: str) -> str:
    """Return the point id in a device-mapper name of ours, with or without a layer."""
    prefix = lvm_text.dm_name(vg, lvm_text.SNAPSHOT_PREFIX)
    return _LAYER.sub("", name.removeprefix(prefix)) if name.startswith(prefix) else ""


def _let_commands_end(origin: str, seconds: float) -> None:
    """Wait while ``origin`` is suspended by an lvm2 command that lives, at most ``seconds``.

    An operator's, or one that a killed daemon began and its guard sees through: to resume in the
    middle of it would take its ground away.
    """
    end = time.monotonic() + seconds
    with Control() as control:
        while time.monotonic() < end and find_stack(control, origin).suspended:
            if not _is_any_alive(_COMMANDS):
                return
            time.sleep(_LOOK_S)


def _is_any_alive(names: tuple[str, ...]) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                head, _, rest = file.read().rpartition(")")
        except OSError:
            continue  # it ended meanwhile
        if head.partition("(")[2] in names and rest.split()[0] not in "ZX":
            return True
    return False


def _our_devices(vg: str) -> list[str]:
    prefix = lvm_text.dm_name(vg, lvm_text.SNAPSHOT_PREFIX)
    with Control() as control:
        return [name for name in control.names() if name.startswith(prefix)]


def _remains(volume: VolumeName, volumes: list[LogicalVolume], before: list[str]) -> Remains:
    origin = next((v for v in volumes if v.name == volume.lv), None)
    ours = lvm_text.snapshots_of(volumes, origin) if origin else []
    known = {lvm_text.dm_name(v.vg, v.name): v.devno is not None for v in volumes}
    # Snapshots are active together with their origin: one that sleeps with it may be whole.
    asleep = origin is not None and origin.devno is None
    with Control() as control:
        states = {
            v.name: lvm_text.seen(
                v, snapshot_numbers(control.status(lvm_text.dm_name(v.vg, v.name)))
            ).state
            for v in ours
        }
        stack = find_stack(control, volume.dm)
        top = stack.origin
        orphans = [n for n in before if _is_orphan(n, known, stack) and control.info(n)]
        has_none = origin is not None and origin.attr[0] not in "oO" and not stack.snapshots
        layered = has_none and _is_layered(control, stack)
    return Remains(
        suspended=tuple(device.name for device in stack.bottom_up() if device.suspended),
        half=tuple(
            v
            for v in ours
            if states[v.name] == "half" and v.attr[0] != _MERGING and not (asleep and v.origin)
        ),
        invalid=tuple(v for v in ours if states[v.name] == "invalid"),
        orphans=tuple(orphans),
        inactive=asleep,
        loaded=top is not None and top.live and top.inactive and not stack.suspended,
        layered=layered,
        unused_real=stack.real is not None and stack.real.open_count == 0,
    )


def _is_layered(control: Control, stack: Stack) -> bool:
    """Whether lvm2 (by the UUID: nobody else's layer is touched) made the origin one."""
    if stack.origin is None or stack.real is None or not stack.real.uuid.endswith("-real"):
        return False
    table = control.table(stack.origin.name) or []
    return any(target.kind == "snapshot-origin" for target in table)


def _is_orphan(name: str, known: dict[str, bool], stack: Stack) -> bool:
    """Whether no LV needs the device ``name``: none has it, or none could be activated with it.

    An activation without the COW space's disk fails, and its nodes stop the next one.
    """
    top = _LAYER.sub("", name)
    if top not in known:
        return True
    return not known[top] and name not in [device.name for device in stack.bottom_up()]


async def _remove_half(lvm: Lvm, volume: VolumeName, name: str) -> None:
    argv = lvm_text.remove_argv(volume.vg, name, udev=lvm.udev)
    dm = lvm_text.dm_name(volume.vg, name)
    try:
        await lvm.guarded(argv, origin=volume.dm, names=(dm,))
    except BlocksnapError:
        # lvm2 gives up on what it did not expect below the LV; take that away and ask again.
        await asyncio.to_thread(_remove_devices, [dm, f"{dm}-cow"])
        await lvm.guarded(argv, origin=volume.dm, names=(dm,))


def _remove_devices(names: list[str]) -> list[str]:
    """Remove devices that nobody holds open, tops before what is under them."""
    removed = []
    with Control() as control:
        for name in sorted(names, key=lambda name: (bool(_LAYER.search(name)), name)):
            info = control.info(name)
            if info is not None and info.open_count == 0:
                control.remove(name)
                removed.append(name)
    return removed


def _tidy(volume: VolumeName, remains: Remains) -> list[str]:
    done = [f"Removed the orphan device {name}." for name in _remove_devices([*remains.orphans])]
    with Control() as control:
        stack = find_stack(control, volume.dm)
        if remains.loaded and stack.origin and stack.origin.inactive and not stack.suspended:
            control.clear(volume.dm)
            done.append(f"Cleared a table of {volume} that was loaded but never put into effect.")
        real = control.info(f"{volume.dm}-real")
        if real is not None and real.open_count == 0:
            control.remove(real.name)
            done.append(f"Removed the unused device {real.name}.")
    return done
