"""Guest: the kernel shows a volume as it was while that is mounted, written to and protected.

Arguments: xfs | ext4, size of the volume in MiB, MiB of difference; "kill" for a worker, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import VOLUME, World
from tests.lab.guest.daemon_kit import LOG, SOCKET, Daemon, bring_loopback_up, type_in

VIEW = kit.MOUNT.parent / "view"


def point(world: World, size: int, seed: int) -> str:
    """Change much, make a point; return its id."""
    world.write_much(size, seed)
    kit.run("sync", "-f", str(kit.MOUNT))
    code, documents = type_in("run", VOLUME, "--wait")
    world.keep_references()
    if code:
        raise kit.CommandError(str(documents))
    return str(documents[-1]["point"])


def key(world: World) -> list[str]:
    return ["--key", f"{world.round}/keys/restore.key"]


def left() -> dict[str, Any]:
    """Return what there is of views."""
    return {
        "devices": [name for name in crash_world.devices() if "view" in name],
        "volumes": [name for name in crash_world.volumes() if "view" in name],
        "loops": kit.run("losetup", "-n", "-O", "BACK-FILE").split(),
        "files": sorted(path.name for path in crash_world.SNAPSHOTS.glob("*view*")),
    }


def look(world: World, name: str, wanted: str, *words: str) -> str:
    """Make a view; tell what it shows, and how long that took; return its path."""
    begun = time.monotonic()
    code, documents = type_in("view", wanted, *key(world), *words)
    took_s, run = time.monotonic() - begun, documents[-1]
    kit.tell(
        "view", name=name, code=code, run=run, took_s=took_s,
        found=kit.image_digest(run["to"]) if run.get("to") else "",
        wanted=kit.image_digest(crash_world.reference(wanted)),
    )  # fmt: skip
    return str(run.get("to"))


def while_it_lasts(world: World, path: str, wanted: str, size: int) -> None:
    """The volume is written to and a cycle runs: the view stays."""
    after = point(world, size, 7)
    kit.tell(
        "lasts", found=kit.image_digest(path), point=after,
        wanted=kit.image_digest(crash_world.reference(wanted)),
    )  # fmt: skip


def mounted(path: str, kind: str) -> None:
    """A file system with a log to replay mounts, writable; an end is refused meanwhile."""
    VIEW.mkdir()
    kit.run("mount", *(["-o", "nouuid"] if kind == "xfs" else []), path, str(VIEW))
    (VIEW / "new").write_text("x")
    code, documents = type_in("view", "--end", VOLUME)
    kit.tell("mounted", code=code, said=documents, ballast=(VIEW / "ballast").stat().st_size)
    kit.run("umount", str(VIEW))


def ended() -> None:
    code, documents = type_in("view", "--end", VOLUME)
    kit.tell("ended", code=code, said=documents, left=left())


def killed(world: World, wanted: str) -> None:
    """The worker dies as soon as there is something of the view."""
    words = ["--socket", SOCKET, "view", wanted, *key(world)]
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "blocksnapctl", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    while not left()["volumes"] and process.poll() is None:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    process.wait(60)
    kit.tell("killed", left=left())


def main(kind: str, size_mib: str, difference_mib: str, kills: str = "") -> None:
    bring_loopback_up()
    size = int(difference_mib) * kit.MIB
    world = World(kind, int(size_mib) * kit.MIB, 4096, reserve=0)
    world.make()
    daemon = Daemon(world)
    try:
        with world.load(seed=5):
            first = point(world, size, 1)
            point(world, size, 2)
            path = look(world, "read-only", first)
            while_it_lasts(world, path, first, size // 2)
            ended()
            if kills:
                killed(world, first)
                ended()
            path = look(world, "writable", first, "--writable")
            mounted(path, kind)
            ended()
            point(world, kit.MIB, 9)
        kit.tell("stopped", status=daemon.stop()[0], devices=crash_world.devices())
    except BaseException:
        daemon.process.send_signal(signal.SIGKILL)
        sys.stderr.write(LOG.read_text()[-4000:])
        raise
    kit.tell("compared", points=world.compare())


main(*sys.argv[1:])
