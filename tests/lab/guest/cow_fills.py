"""Guest: the repository is gone and writers go on, so the COW device fills: what Prometheus sees.

Tells every other second what the daemon exposes of its COW device, until that is full.
"""

from __future__ import annotations

import mmap
import os
import random
import time
import urllib.request

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import World
from tests.lab.guest.daemon_kit import Daemon, bring_loopback_up, type_in

SIZE = 96 * kit.MIB
STEP_S = 2.0
STEPS_MAX = 60
PER_STEP = 2 * kit.MIB
TOLD = ("blocksnap_cow_", "blocksnap_consecutive_failures", "blocksnap_target_up")


def exposed() -> list[str]:
    """Return the lines of the exposition that matter here."""
    with urllib.request.urlopen("http://127.0.0.1:10085/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    return [line for line in lines if line.removeprefix("# TYPE ").startswith(TOLD)]


def write_more(step: int, buffer: mmap.mmap) -> None:
    """Change the next part of the volume, as a busy writer does."""
    fd = os.open(crash_world.ORIGIN, os.O_WRONLY | os.O_DIRECT)
    for piece in range(PER_STEP // len(buffer)):
        offset = step * PER_STEP + piece * len(buffer)
        os.pwrite(fd, buffer, offset % SIZE)
    os.close(fd)


def main() -> None:
    bring_loopback_up()
    world = World("raw", SIZE, 4096, reserve=0)
    world.make()
    daemon = Daemon(world)
    kit.tell("first", code=type_in("run", crash_world.VOLUME, "--wait")[0])
    os.rename(f"{world.round}/repository", f"{world.round}/gone")
    kit.tell("gone", code=type_in("run", crash_world.VOLUME, "--wait")[0])
    buffer = mmap.mmap(-1, kit.MIB)
    buffer.write(random.Random(1).randbytes(kit.MIB))
    for step in range(STEPS_MAX):
        begun = time.monotonic()
        kit.tell("step", number=step, lines=exposed())
        if step >= 5:  # some quiet before
            write_more(step - 5, buffer)
        time.sleep(max(0.0, STEP_S - (time.monotonic() - begun)))
    kit.tell("ended", status=daemon.stop()[0])


main()
