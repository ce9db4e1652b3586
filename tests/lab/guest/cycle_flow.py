"""Guest: the daemon itself under load, asked by its command line, through good and bad days.

Arguments: xfs | ext4, size of the volume in MiB, chunk size in bytes.

    first full copy, cycles → SIGTERM while it ships → a lie in a COW device → a lie in the
    fingerprints → a COW device that overflows → every point against its reference
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import World
from tests.lab.guest.daemon_kit import LOG, SOCKET, Daemon, ask, bring_loopback_up, type_in

BLOCK_SIZE = 4096
MUCH = 48 * kit.MIB


def cycle(world: World, name: str, **facts: object) -> dict[str, Any]:
    """Run a cycle by the command line, take its reference; tell and return its run."""
    code, documents = type_in("run", crash_world.VOLUME, "--wait")
    run = documents[-1]
    kit.tell(
        "cycle",
        name=name,
        code=code,
        point=run["point"],
        result=run["result"],
        reason=run["reason"],
        warnings=len(run["warnings"]),
        error=run["error"],
        alive=world.keep_references(),
        devices=crash_world.devices(),
        **facts,
    )
    return run


def good_days(world: World) -> None:
    """The first full copy and some cycles."""
    for number in range(3):
        cycle(world, f"good {number}")
    code, (status,) = type_in("status")
    kit.tell("status", code=code, states=[v["state"] for v in status["volumes"]])


def stop_while_it_ships(world: World, daemon: Daemon) -> Daemon:
    """SIGTERM at about half of a shipment; the next daemon goes on with the same snapshot."""
    world.write_much(MUCH, seed=1)
    newest = ask("/v1/points")["points"][-1]["id"]
    code, _ = type_in("run", crash_world.VOLUME)

    def is_half_way() -> bool:
        run = ask("/v1/runs")["runs"][0]
        if run["state"] == "done":
            raise kit.CommandError("the daemon ships too fast to be stopped half-way")
        return bool(run["phase"] == "listed" and 2 * run["done_bytes"] >= run["expected_bytes"] > 0)

    daemon.until(is_half_way, "half of a shipment")
    status, stop_s = daemon.stop()
    alive = world.keep_references()
    (pending,) = set(alive) - {newest}
    daemon = Daemon(world)

    def is_committed() -> bool:
        return ask("/v1/points")["points"][-1]["id"] == pending and crash_world.snapshots() == [
            pending
        ]

    daemon.until(is_committed, "the point that was under way")
    kit.tell("stopped", code=code, status=status, stop_s=stop_s, pending=pending, newest=newest)
    return daemon


def lie_in_the_cow_device(world: World) -> None:
    """Alter one block of what the kernel saved for the newest point."""
    world.write_much(kit.MIB, seed=2)  # something is saved now
    (base,) = crash_world.snapshots()
    path = f"/dev/mapper/{crash_world.PREFIX}{base}-cow"
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, BLOCK_SIZE)
    os.preadv(fd, [buffer], world.chunk_size)  # the first exception area follows the header
    old, new = struct.unpack_from("<QQ", buffer)
    os.preadv(fd, [buffer], new * world.chunk_size)
    buffer[100] ^= 1
    os.pwrite(fd, buffer, new * world.chunk_size)
    os.close(fd)
    cycle(world, "cow lie", base=base, block=old * world.chunk_size // BLOCK_SIZE)
    (points,) = type_in("points")[1]
    suspect = [point["id"] for point in points["points"] if point.get("suspect")]
    kit.tell("lie", metrics=metrics(), events=events("proof-mismatch"), suspect=suspect)


def lie_in_the_fingerprints(world: World) -> None:
    """Alter the fingerprint of a block that changes next."""
    (base,) = crash_world.snapshots()
    world.write_much(kit.MIB, seed=3)
    path = f"/dev/mapper/{crash_world.PREFIX}{base}-cow"
    buffer = mmap.mmap(-1, BLOCK_SIZE)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    os.preadv(fd, [buffer], world.chunk_size)
    os.close(fd)
    block = struct.unpack_from("<Q", buffer)[0] * world.chunk_size // BLOCK_SIZE
    (rows,) = Path(world.round).glob("state/volumes/*/fingerprints/data-*")
    with rows.open("r+b") as file:
        file.seek(16 * block)
        file.write(b"\x55" * 16)
    cycle(world, "fingerprint lie", base=base, block=block)
    kit.tell("fingerprints", events=events("fingerprints-wrong"))


def overflow(world: World) -> None:
    """Fill the disk under the COW device, then write: the kernel gives the snapshot up."""
    (base,) = crash_world.snapshots()
    room = os.statvfs(crash_world.SNAPSHOTS)
    ballast = crash_world.SNAPSHOTS / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - 8 * kit.MIB)
    world.write_much(MUCH, seed=4)
    kit.run("sync", "-f", str(kit.MOUNT))
    status = kit.run("dmsetup", "status", crash_world.PREFIX + base).split()[3]
    cycle(world, "overflow", base=base, status=status)
    kit.tell("overflowed", metrics=metrics())
    ballast.unlink()
    cycle(world, "after the overflow")


def metrics() -> dict[str, float]:
    """Return what Prometheus reads of tracking and is not 0: name, with its labels → value."""
    with urllib.request.urlopen("http://127.0.0.1:10085/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    told = ("blocksnap_proof_", "blocksnap_cow_overflows", "blocksnap_full_scans")
    pairs = [line.rpartition(" ") for line in lines if line.startswith(told)]
    return {name: float(value) for name, _, value in pairs if float(value)}


def events(kind: str) -> list[dict[str, Any]]:
    """Return the daemon's events of one kind."""
    return [event for event in type_in("events")[1] if event["type"] == kind]


def write_page(world: World) -> None:
    """Write everything about the volume as one page, for the host's browser."""
    kit.run(
        sys.executable, "-m", "blocksnapctl", "--socket", SOCKET, "report", crash_world.VOLUME,
        "--html", str(kit.OUT / "page.html"), "--key", f"{world.round}/keys/restore.key",
    )  # fmt: skip


def restore(world: World) -> None:
    """Restore the newest point by the command line, and compare it."""
    point_id = type_in("points")[1][-1]["points"][-1]["id"]
    image = f"{crash_world.REFERENCES}/restored.img"
    code, _ = type_in("--repo", f"{world.round}/repository", "restore", point_id, "--to", image,
                      "--key", f"{world.round}/keys/restore.key")  # fmt: skip
    differs = kit.run("cmp", image, crash_world.reference(point_id), check=False)
    kit.tell("restored", code=code, differs=differs)


def main(kind: str, size_mib: str, chunk_size: str) -> None:
    bring_loopback_up()
    world = World(kind, int(size_mib) * kit.MIB, int(chunk_size), reserve=0)
    world.make()
    daemon = Daemon(world)
    try:
        with world.load(seed=int(chunk_size)):
            good_days(world)
            daemon = stop_while_it_ships(world, daemon)
            lie_in_the_cow_device(world)
            lie_in_the_fingerprints(world)
            overflow(world)
            write_page(world)
            restore(world)
        kit.tell("ended", status=daemon.stop()[0])
    except BaseException:
        daemon.process.send_signal(signal.SIGKILL)
        sys.stderr.write(LOG.read_text()[-4000:])
        raise
    kit.tell("compared", points=world.compare())


main(*sys.argv[1:])
