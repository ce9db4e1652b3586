"""Guest: a COW device is filled three times; each time the daemon has an answer.

    rotate     within a minute: a cycle is due at once, and gives back what was used
    grow       at full speed, and paused, so that no cycle may come: the device is made larger
    overflow   at full speed, and further than it may grow: told at once, one full compare

After each scene the metrics are told as Prometheus reads them.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import World
from tests.lab.guest.daemon_kit import LOG, Daemon, ask, bring_loopback_up, type_in

SIZE = 192 * kit.MIB
SIZE_AT_FIRST, SIZE_MAX = 24 * kit.MIB, 48 * kit.MIB
PIECE, PIECES_MAX = 256 * kit.KIB, 90
SIZES = 'size = "24 MiB", grow_at = 70, grow_by = "50%", max = "48 MiB", vg_reserve = "1%"'
WANTED = ("blocksnap_cow_", "blocksnap_full_scans_total", "blocksnap_volume_paused{")


def metrics() -> dict[str, float]:
    """Return the series about COW devices, as they are exposed."""
    with urllib.request.urlopen("http://127.0.0.1:10085/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith(WANTED)]
    return {name: float(value) for name, _, value in pairs}


def cow() -> dict[str, Any]:
    """Return what status says of the COW device."""
    return ask("/v1/status")["volumes"][0]["cow"] or {}


def points() -> list[dict[str, Any]]:
    """Return the points there are."""
    found: list[dict[str, Any]] = ask("/v1/points")["points"]
    return found


def write(offset: int, size: int) -> None:
    """Overwrite a part of the volume, as fast as it can be."""
    kit.write_chunks(crash_world.ORIGIN, offset // 4096, size // 4096, 4096)


def show(scene: str, world: World, **facts: object) -> None:
    """Tell what there is now; keep the reference of a new point."""
    alive = world.keep_references()
    kinds = [event["type"] for event in type_in("events")[1]]
    kit.tell(scene, alive=alive, metrics=metrics(), cow=cow(), kinds=kinds,
             points=len(points()), **facts)  # fmt: skip


def rotate(world: World, daemon: Daemon) -> None:
    """Fill it within a minute; a cycle comes by itself, an hour early, and in time."""
    before = len(points())
    for piece in range(PIECES_MAX):
        write(piece * PIECE, PIECE)
        time.sleep(0.9)
        if len(points()) > before:
            break
    daemon.until(lambda: cow()["used"] < SIZE_AT_FIRST // 2, "an emptier COW device")
    show("rotate", world, method=points()[-1]["method"])


def grow(world: World, daemon: Daemon) -> None:
    """Fill it while no cycle may come."""
    type_in("pause", crash_world.VOLUME, "--for", "1h", "--reason", "lab")
    (base,) = crash_world.snapshots()
    before = cow()["size"]
    write(0, 20 * kit.MIB)

    def size() -> int:
        return kit.snapshot_status(crash_world.PREFIX + base)[1] * 512

    def has_grown() -> bool:
        """Tell whether it is larger, was told of, and will not grow once more."""
        told = cow()
        is_enough = told["used"] < 0.7 * told["size"] or told["size"] == SIZE_MAX
        return bool(before < told["size"] == size() and is_enough)

    daemon.until(has_grown, "a larger COW device")
    show("grow", world, before=before, kernel=size())
    type_in("resume", crash_world.VOLUME)
    code, documents = type_in("run", crash_world.VOLUME, "--wait")
    show("grown", world, code=code, method=points()[-1]["method"], run=documents[-1])


def overflow(world: World, daemon: Daemon) -> None:
    """Write further than it may grow."""
    type_in("pause", crash_world.VOLUME, "--for", "1h", "--reason", "lab")
    (base,) = crash_world.snapshots()
    write(0, SIZE // 2)
    daemon.until(lambda: cow().get("is_lost"), "the loss to be told")
    status = kit.run("dmsetup", "status", crash_world.PREFIX + base).split()[3]
    show("overflow", world, status=status)
    type_in("resume", crash_world.VOLUME)
    code, documents = type_in("run", crash_world.VOLUME, "--wait")
    show("compared", world, code=code, method=points()[-1]["method"], run=documents[-1])


def main() -> None:
    bring_loopback_up()
    world = World("raw", SIZE, 4096, reserve=1 << 20)
    world.make()
    path = Path(world.config_path)
    path.write_text(path.read_text().replace('freeze_max = "10s"', f'freeze_max = "10s", {SIZES}'))
    daemon = Daemon(world)
    try:
        daemon.until(lambda: points() and cow(), "the first point, and a look at its snapshot")
        show("start", world)
        rotate(world, daemon)
        grow(world, daemon)
        overflow(world, daemon)
        kit.tell("ended", status=daemon.stop()[0])
    except BaseException:
        sys.stderr.write(LOG.read_text()[-6000:])
        raise
    kit.tell("compared-all", points=world.compare())


main()
