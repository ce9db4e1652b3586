"""Guest: the kernel merges a point into its volume; the machine may be killed meanwhile.

Arguments: "merge", or "plain" for a restore in place without the kernel; "once"; or "kill", and in
the next boot "after", the point and what it should hold.
The volume is raw, 96 MiB; copying is slowed down, so that there is a middle of it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import ORIGIN, VOLUME, World
from tests.lab.guest.daemon_kit import LOG, SOCKET, Daemon, ask, bring_loopback_up, type_in

SIZE, MUCH = 96 * kit.MIB, 24 * kit.MIB
THROTTLE = Path("/sys/module/dm_snapshot/parameters/snapshot_copy_throttle")
MIDDLE = 16 * kit.MIB  # so much is still to be copied


def point(world: World, seed: int) -> str:
    world.write_much(MUCH, seed)
    code, documents = type_in("run", VOLUME, "--wait")
    world.keep_references()
    if code:
        raise kit.CommandError(str(documents))
    return str(documents[-1]["point"])


def words(world: World, wanted: str) -> list[str]:
    how = ["view", wanted, "--merge"] if MERGES else ["restore", wanted, "--in-place"]
    return [*how, "--yes", "--key", f"{world.round}/keys/restore.key"]


def to_copy() -> int | None:
    """Return the bytes that the kernel has still to copy; None: it merges nothing."""
    fields = kit.run("dmsetup", "status", crash_world.ORIGIN_DM).split()
    if "snapshot-merge" not in fields:
        return None
    return 512 * (int(fields[3].partition("/")[0]) - int(fields[4]))


def is_begun() -> bool:
    paused = ask("/v1/status")["volumes"][0]["paused"] or {}
    return to_copy() is not None if MERGES else bool(paused.get("writing"))


def tell_end(world: World, wanted: str, event: str, **facts: Any) -> None:
    """Tell what the volume holds, what is left of the merge, and what the next cycle is."""
    # Killed, the daemon begins a cycle as soon as it may: its snapshots are not what is left.
    volumes = [name for name in crash_world.volumes() if not name.startswith("bs_")]
    found = kit.image_digest(ORIGIN)
    status = ask("/v1/status")["volumes"][0]
    code, documents = type_in("run", VOLUME, "--wait")
    world.keep_references()
    kit.tell(
        event, found=found, wanted=kit.image_digest(crash_world.reference(wanted)),
        volumes=volumes, paused=status["paused"], code=code, run=documents[-1], **facts,
    )  # fmt: skip


def once(world: World, daemon: Daemon, *, dies: bool) -> None:
    wanted = point(world, 1)
    point(world, 2)
    digest = kit.image_digest(crash_world.reference(wanted))
    THROTTLE.write_text("5" if dies else "30")
    with LOG.open("ab") as log:
        client = subprocess.Popen(
            [sys.executable, "-m", "blocksnapctl", "--socket", SOCKET, *words(world, wanted)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    daemon.until(lambda: is_begun() or client.poll() is not None, "a merge")
    left = to_copy()
    if dies:
        kit.run("sync")
        kit.tell_and_wait_for_kill("merging", point=wanted, digest=digest, left=left)
    at_once = kit.image_digest(ORIGIN)
    code = client.wait(100)
    tell_end(world, wanted, "merged", left=left, at_once=at_once, merge_code=code,
             said=LOG.read_text()[-1500:])  # fmt: skip


def after(world: World, wanted: str, digest: str) -> Daemon:
    """After the kill: it reads as the point at once; the same command sees the merge through."""
    world.attach()
    left = to_copy()
    at_once = kit.image_digest(ORIGIN)
    daemon = Daemon(world)
    causes = [cause["code"] for cause in ask("/v1/status")["volumes"][0]["causes"]]
    daemon.until(lambda: ask("/v1/points") is not None, "a volume that can be protected")
    begun = time.monotonic()
    code, documents = type_in(*words(world, wanted))
    tell_end(
        world, wanted, "merged", left=left, at_once=at_once, merge_code=code, digest=digest,
        causes=causes, seconds=time.monotonic() - begun, merge=documents[-1],
    )  # fmt: skip
    return daemon


def main(what: str, *facts: str) -> None:
    bring_loopback_up()
    world = World("raw", SIZE, 4096, reserve=0)
    daemon = None
    try:
        if what == "after":
            daemon = after(world, *facts)
        else:
            world.make()
            daemon = Daemon(world)
            once(world, daemon, dies=what == "kill")
        kit.tell("stopped", status=daemon.stop()[0])
    except BaseException:
        if daemon is not None:
            daemon.process.send_signal(signal.SIGKILL)
        sys.stderr.write(LOG.read_text()[-6000:])
        raise
    kit.tell("compared", points=world.compare())


MERGES = sys.argv[1] == "merge"
main(*sys.argv[2:])
