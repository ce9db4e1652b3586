"""``volumes``: what this host has to protect, and the TOML for it. Changes nothing. Edge."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from blocksnapd.config import load
from blocksnapd.control.messages import EXIT_OK, SCHEMA
from blocksnapd.cycle import host_volumes
from blocksnapd.cycle.block_device import Topology, device_number
from blocksnapd.cycle.lvm import Lvm
from blocksnapd.cycle.lvm_text import COW_PV_TAG
from blocksnapd.errors import HostError
from blocksnapd.runtime.process import run
from blocksnapd.units import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocksnapd.config import Config
    from blocksnapd.control.documents import HostVolume, HostVolumes
    from blocksnapd.cycle.lvm_text import LogicalVolume
    from blocksnapd.runtime.process import Finished

LOOK_S = 1.0  # between the two looks that a rate is made of
_LOOK_S_MAX = 30.0
_BLKID = ["blkid", "--probe", "--output", "value", "--match-tag", "TYPE"]
_HEAD = ("VOLUME", "SIZE", "FS", "MOUNTED", "WRITES NOW", "SINCE BOOT", "VG FREE", "PROTECTED")


async def survey(path: str, form: str | None) -> int:
    """Print the volumes; return the exit code.

    Args:
        path: the configuration; none there yet means that nothing is protected.
        form: ``json`` for one document, ``plain`` for fields with tabs between, None for people.

    Raises:
        ConfigError: it is wrong. HostError, LvmError, NotAllowedError: the host did not tell.
    """
    config = await asyncio.to_thread(_config, path)
    found = await look(config)
    if form == "json":
        print(json.dumps(found))
    elif form == "plain":
        print("".join(_plain(v) for v in found["volumes"]), end="")
    else:
        print(_page(found["volumes"], path, has_targets=bool(config and config.targets)))
    return EXIT_OK


async def look(
    config: Config | None, *, lvm: Lvm | None = None, topology: Topology | None = None
) -> HostVolumes:
    """Return what there is; takes ``LOOK_S``. Raises as ``survey``."""
    lvm, topology = lvm or Lvm(), topology or Topology()
    devices = host_volumes.parse_lsblk((await _run(host_volumes.LSBLK)).stdout)
    if not lvm.udev:  # it is udevd that tells lsblk what is on a device
        devices = [replace(d, fstype=d.fstype or await _content(d.path)) for d in devices]
    logical, rooms = await _logical(lvm)
    volumes = host_volumes.volumes_of(devices, logical)
    before, began = [topology.written(v.devno) for v in volumes], time.monotonic()
    await asyncio.sleep(LOOK_S)
    after, took_s = [topology.written(v.devno) for v in volumes], time.monotonic() - began
    up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    known = await asyncio.to_thread(_known, config)
    spaces = {space.vg for space in config.cow.values()} if config else set()
    found: list[HostVolume] = []
    for volume, first, last in zip(volumes, before, after, strict=True):
        has_moved = first is not None and last is not None
        average = last / up_s if last is not None else None
        is_protected = not known.isdisjoint({volume.name, volume.device, volume.devno})
        text = ""
        if not is_protected:
            text = host_volumes.toml(volume, rate=average or 0.0, spaces=spaces)
            spaces |= set() if volume.no_snapshot else {volume.vg}  # pasted once, it serves all
        free, cow_free = rooms.get(volume.vg, (None, None))
        found.append(
            {
                "volume": volume.name, "device": volume.device, "size": volume.size,
                "filesystem": volume.fstype, "mounts": list(volume.mounts),
                "write_rate": ((last or 0) - (first or 0)) / took_s if has_moved else None,
                "write_rate_since_boot": average,
                "vg": volume.vg, "vg_free": free, "cow_free": cow_free,
                "no_snapshot": volume.no_snapshot, "protected": is_protected, "toml": text,
            }
        )  # fmt: skip
    return {"schema": SCHEMA, "looked_s": took_s, "volumes": found}


def _config(path: str) -> Config | None:
    return load(path) if os.path.exists(path) else None


async def _content(path: str) -> str:
    return (await _run([*_BLKID, path], may_fail=True)).stdout.strip()


async def _run(argv: list[str], *, may_fail: bool = False) -> Finished:
    try:
        finished = await run(argv, timeout_s=_LOOK_S_MAX)
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]} is not installed.", hint="Install util-linux.") from error
    if finished.status != 0 and not may_fail:
        raise HostError(f"{argv[0]} failed with status {finished.status}: {finished.said}")
    return finished


async def _logical(lvm: Lvm) -> tuple[list[LogicalVolume], dict[str, tuple[int, int]]]:
    """Return the logical volumes, and for each group the free bytes outside and on COW space."""
    if shutil.which("lvs") is None:
        return [], {}
    found, rooms = [], {}
    for name in [group.name for group in await lvm.groups()]:
        group = await lvm.group(name)
        found += group.volumes
        cow_free = sum(pv.free for pv in group.physical_volumes if COW_PV_TAG in pv.tags)
        rooms[name] = (sum(pv.free for pv in group.physical_volumes) - cow_free, cow_free)
    return found, rooms


def _known(config: Config | None) -> set[str]:
    """Return the names and device numbers of what is protected."""
    known: set[str] = set()
    for volume in config.volumes.values() if config else ():
        known.add(volume.name)
        try:
            known.add(device_number(volume.device))
        except (OSError, ValueError):
            continue  # a file, or not there now
    return known


def _page(volumes: Sequence[HostVolume], path: str, *, has_targets: bool) -> str:
    if not volumes:
        return "This host has no block volumes."
    rows = [_HEAD, *map(_row, volumes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    missing = [v for v in volumes if v["toml"]]
    if missing:
        count = format_count(len(missing), "volume")
        lines += ["", f"# {count} not protected. Paste what you want of this into {path}:"]
        if not has_targets:
            lines.append("# (It has no [target.NAME] yet, where points go: see blocksnapctl init.)")
        lines += [f"\n{v['toml'].rstrip()}" for v in missing]
    return "\n".join(lines)


def _row(volume: HostVolume) -> tuple[str, ...]:
    free = volume["vg_free"]
    room = "-" if free is None else format_size(free)
    if volume["cow_free"]:
        room += f" + {format_size(volume['cow_free'])} COW"
    return (
        _clean(volume["volume"]), format_size(volume["size"]), volume["filesystem"] or "-",
        _clean(" ".join(volume["mounts"])) or "-", _rate(volume["write_rate"]),
        _rate(volume["write_rate_since_boot"]), room, "yes" if volume["protected"] else "no",
    )  # fmt: skip


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{format_size(rate)}/s"


def _plain(volume: HostVolume) -> str:
    """Return name, size, file system, both rates, free bytes of the group, protected, mounts."""
    rates = (volume["write_rate"], volume["write_rate_since_boot"])
    fields = (
        volume["volume"], volume["size"], volume["filesystem"],
        *(None if rate is None else round(rate) for rate in rates), volume["vg_free"],
        "yes" if volume["protected"] else "no", ",".join(volume["mounts"]),
    )  # fmt: skip
    return "\t".join("" if f is None else _clean(str(f)) for f in fields) + "\n"


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
