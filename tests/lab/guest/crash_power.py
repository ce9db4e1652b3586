"""Guest, several lives: each ends when the machine loses its power at a place of a cycle.

Arguments: "make" in the first life, else "go on"; raw | xfs | ext4, size of the volume in MiB,
chunk size in bytes; the place of the next loss of power, in the last life none.

References lie on a disk of their own, synced: to take them brings nothing of the daemon's own
files to their disk that it did not sync itself.
"""

from __future__ import annotations

import sys

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_daemon import REMOVING, SHIPPING, TAKING, Daemon
from tests.lab.guest.crash_world import World

MUCH = 16 * kit.MIB


def cut(world: World, place: str) -> None:
    """Run a cycle up to ``place``, let the host cut the power there; the load goes on."""
    if place == SHIPPING:
        world.write_much(MUCH, seed=len(place))
    turn = Daemon(world, pause_at=place).turn(due=True)
    if not turn.paused:
        raise kit.CommandError(f"the cycle did not come to {place!r}: {turn}")
    in_lvm2 = place in (TAKING, REMOVING)  # then nothing can be read: the volume is suspended
    found = [] if in_lvm2 else world.keep_references()
    kit.tell_and_wait_for_kill("cut", at=place, steps=turn.steps, found=found)


def one_turn(world: World, event: str, *, due: bool) -> None:
    """Run one cycle, or only a recovery; tell how it went and what is left."""
    daemon = Daemon(world)
    turn = daemon.turn(due=due)
    daemon.end()
    left = {
        "snapshots": world.keep_references(),
        "devices": crash_world.devices(),
        "volumes": crash_world.volumes(),
    }
    kit.tell(event, points=turn.points, error=turn.error, events=turn.events, left=left)


def main(life: str, kind: str, size_mib: str, chunk_size: str, *place: str) -> None:
    world = World(kind, int(size_mib) * kit.MIB, int(chunk_size))
    if life == "make":
        world.make()
    else:
        kit.tell("attached", said=world.attach())
    with world.load(seed=int(chunk_size) + len(place)):
        if life != "make":
            one_turn(world, "recovered", due=False)
        one_turn(world, "cycled", due=True)
        kit.tell("compared", points=world.compare())
        for name in place:
            cut(world, name)


main(*sys.argv[1:])
