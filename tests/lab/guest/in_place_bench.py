"""Guest: restores in place, there and back and there, beside a full one, by the command line.

Arguments: size of the volume, of what is on it, and of the difference, in MiB. Tells seconds.
"""

from __future__ import annotations

import sys
import time

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_world import ORIGIN, VOLUME, World
from tests.lab.guest.daemon_kit import Daemon, bring_loopback_up, type_in


def point(world: World, size: int, seed: int) -> tuple[str, str]:
    """Write ``size`` bytes, make a point; return its id, and the digest of its snapshot."""
    world.write_much(size, seed)
    kit.run("sync", "-f", str(kit.MOUNT))
    code, documents = type_in("run", VOLUME, "--wait")
    if code:
        raise kit.CommandError(str(documents[-1]))
    found = str(documents[-1]["point"])
    return found, kit.image_digest(f"/dev/mapper/{crash_world.PREFIX}{found}")


def timed(*words: str) -> tuple[float, dict[str, object]]:
    """Type a command; return its seconds and the run it told."""
    begun = time.monotonic()
    code, documents = type_in(*words)
    if code:
        raise kit.CommandError(str(documents[-1]))
    return time.monotonic() - begun, documents[-1]


def main(size: int, content: int, difference: int) -> None:
    bring_loopback_up()
    world = World("xfs", size, 4096, reserve=0)
    world.make()
    other = kit.make_lv("vg", "other", size)
    world.write_much(content, 1)  # before the daemon's first cycle, which begins at once
    daemon = Daemon(world)
    wanted, digest = point(world, 0, 1)
    newest, _ = point(world, difference, 2)
    kit.run("umount", str(kit.MOUNT))
    key = ("--key", f"{world.round}/keys/restore.key", "--yes")
    for target in (wanted, newest, wanted):
        in_place_s, run = timed("restore", target, "--in-place", *key)
        _, after = timed("run", VOLUME, "--wait")
        kit.tell(
            "in place", typed_s=in_place_s, duration=run["duration"], phases=run["phases"],
            written=run["changed_bytes"], after=after["changed_bytes"],
        )  # fmt: skip
    same = kit.image_digest(ORIGIN) == digest
    full_s, full = timed("restore", wanted, "--to", other, *key)
    kit.tell(
        "full", typed_s=full_s, duration=full["duration"], same=same,
        same_full=kit.image_digest(other) == digest,
    )  # fmt: skip
    daemon.stop()


main(*(int(word) * kit.MIB for word in sys.argv[1:]))
