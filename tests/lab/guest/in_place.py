"""Guest: a volume restored in place by the command line, undone, and killed in the middle.

Arguments: xfs | ext4, size of the volume in MiB, MiB of difference, then after which seconds of
writing to kill whom: client, worker, daemon.

What the volume holds is read with its own tools (SHA-256 of the whole device), and compared with
what it was when the points were made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from blocksnapd.cycle import lvm_text, merging
from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import ORIGIN, VOLUME, World
from tests.lab.guest.daemon_kit import LOG, SOCKET, Daemon, ask, bring_loopback_up, type_in

WAIT_S_MAX = 60.0


class Scene:
    """A world and its daemon, and who restores."""

    def __init__(self, kind: str, size: int, difference: int) -> None:
        self.world = World(kind, size, 4096, reserve=0)
        self.world.make()
        self.difference = difference
        self.daemon = Daemon(self.world)

    @property
    def key(self) -> list[str]:
        return ["--key", f"{self.world.round}/keys/restore.key", "--yes"]

    def point(self, seed: int) -> str:
        """Change much, make a point; return its id."""
        self.world.write_much(self.difference, seed)
        kit.run("sync", "-f", str(kit.MOUNT))
        code, documents = type_in("run", VOLUME, "--wait")
        self.world.keep_references()
        kit.tell("point", code=code, run=documents[-1])
        return str(documents[-1]["point"])

    def restore(self, point: str) -> tuple[int, list[dict[str, Any]]]:
        return type_in("restore", point, "--in-place", *self.key)

    def start(self, point: str) -> subprocess.Popen[bytes]:
        """Start a restore in place; return its process once it writes."""
        words = ["--socket", SOCKET, "--json", "restore", point, "--in-place", *self.key]
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "blocksnapctl", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.daemon.until(lambda: (self.paused() or {}).get("writing"), "a restore that writes")
        return process

    def paused(self) -> dict[str, Any] | None:
        """Return what status says of the pause."""
        found = ask("/v1/status")
        return found["volumes"][0]["paused"] if found else None


def worker_of(client: int) -> int:
    """Return the process that a client started."""
    text = Path(f"/proc/{client}/task/{client}/children").read_text().split()
    return int(text[0])


def refused_while_mounted(scene: Scene, point: str) -> None:
    code, documents = scene.restore(point)
    kit.tell("mounted", code=code, said=documents, paused=scene.paused())
    kit.run("umount", str(kit.MOUNT))


def there_and_back(scene: Scene, point: str) -> str:
    """Restore ``point`` in place, then undo it; return the point from before."""
    before = kit.image_digest(ORIGIN)
    code, documents = scene.restore(point)
    run = documents[-1]
    kit.tell(
        "restored", code=code, run=run, paused=scene.paused(),
        found=kit.image_digest(ORIGIN), wanted=kit.image_digest(crash_world.reference(point)),
    )  # fmt: skip
    points = type_in("points")[1][-1]["points"]
    safety = next(p["id"] for p in points if p["tags"] == ["before-restore"])
    scene.world.keep_references()
    code, documents = type_in("run", VOLUME, "--wait")
    point_after = documents[-1]
    scene.world.keep_references()
    kit.tell("next", code=code, run=point_after)
    code, documents = scene.restore(safety)
    kit.tell(
        "undone", code=code, run=documents[-1], found=kit.image_digest(ORIGIN), wanted=before
    )  # fmt: skip
    return safety


def leave_unmerged(point: str) -> None:
    """Make what is left of a restore that merges, when it is killed before the kernel merges."""
    kit.run(
        "lvcreate", "-qqy", "-Wn", "-Zn", "--size", "4m", "--name", merging.merge_name(point),
        "--addtag", f"{merging.TAG_OF}data", "vg", f"@{lvm_text.COW_PV_TAG}",
    )  # fmt: skip


def killed(scene: Scene, whom: str, after_s: float, point: str) -> None:
    """Kill ``whom`` in the middle of a restore to ``point``; the same command finishes it.

    It clears away, too, what one that was to merge left.
    """
    before = kit.image_digest(ORIGIN)
    process = scene.start(point)
    worker = worker_of(process.pid)
    time.sleep(after_s)
    victim = {"client": process.pid, "worker": worker, "daemon": scene.daemon.process.pid}[whom]
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(victim, signal.SIGKILL)
    if whom == "daemon":
        scene.daemon.process.wait(WAIT_S_MAX)
        scene.daemon = Daemon(scene.world)
    process.wait(WAIT_S_MAX)
    scene.daemon.until(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")
    volume = ask("/v1/status")["volumes"][0]
    half = [c for c in volume["causes"] if c["code"] == "E-HALF-RESTORED"]
    held = {
        "state": volume["state"], "causes": half, "left": kit.image_digest(ORIGIN),
        "run": type_in("run", VOLUME)[0], "resume": type_in("resume", VOLUME)[0],
    } if half else {}  # fmt: skip
    leave_unmerged(point)
    code, documents = scene.restore(point)
    kit.tell(
        "killed", whom=whom, after_s=after_s, status=process.returncode, held=held, code=code,
        run=documents[-1], paused=scene.paused(), before=before, found=kit.image_digest(ORIGIN),
        wanted=kit.image_digest(crash_world.reference(point)),
        unmerged=[v for v in crash_world.volumes() if v.startswith(lvm_text.MERGE_PREFIX)],
    )  # fmt: skip


def main(kind: str, size_mib: str, difference_mib: str, *kills: str) -> None:
    bring_loopback_up()
    scene = Scene(kind, int(size_mib) * kit.MIB, int(difference_mib) * kit.MIB)
    try:
        first = scene.point(1)
        second = scene.point(2)
        refused_while_mounted(scene, first)
        there_and_back(scene, first)
        for number, kill in enumerate(kills):
            whom, _, after = kill.partition(":")
            killed(scene, whom, float(after), second if number % 2 else first)
        code, documents = type_in("run", VOLUME, "--wait")
        scene.world.keep_references()
        kit.tell("last", code=code, run=documents[-1])
        kit.run("mount", ORIGIN, str(kit.MOUNT))
        kit.run("umount", str(kit.MOUNT))
        kit.tell("ended", status=scene.daemon.stop()[0])
    except BaseException:
        scene.daemon.process.send_signal(signal.SIGKILL)
        sys.stderr.write(LOG.read_text()[-4000:])
        raise
    kit.tell("compared", points=scene.world.compare())


main(*sys.argv[1:])
