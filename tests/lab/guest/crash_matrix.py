"""Guest: the daemon is killed at each step of a cycle; what do the next ones make of it?

Arguments: raw | xfs | ext4, size of the volume in MiB, chunk size in bytes, then the places to
die at: "first:STEP" in the first full copy of a new repository, "STEP" in a tracked cycle. The
tracked ones follow one another: the cycle after a recovery is the one that is killed next.

For each a process runs a cycle and dies, and a second one recovers. The volume is written to all
the time.
"""

from __future__ import annotations

import sys
import time

from tests.lab.guest import crash_world, kit
from tests.lab.guest.crash_daemon import REMOVING, SHIPPING, TAKING, Daemon, is_suspended
from tests.lab.guest.crash_world import World

MUCH = 16 * kit.MIB


def die(world: World, name: str) -> None:
    """Let the daemon die at one place; tell what the next one found, did and left."""
    begun, step = time.monotonic(), name.removeprefix("first:")
    if step == SHIPPING:
        world.write_much(MUCH, seed=len(name))
    died = Daemon(world, die_at=step).turn(due=True)
    # The guard outlives it: the next daemon comes while lvcreate or lvremove still holds the
    # volume suspended, and there is nothing yet that dd could read.
    found = [] if step in (TAKING, REMOVING) else world.keep_references()
    daemon = Daemon(world)
    recovered = daemon.turn(due=False)
    daemon.end()
    kit.tell(
        "died",
        at=name,
        steps=died.steps,
        suspended=is_suspended(),
        found=found,
        points=recovered.points,
        error=recovered.error,
        events=recovered.events,
        left=rest(world),
        seconds=time.monotonic() - begun,
    )


def one_cycle(world: World) -> None:
    """Run one cycle that nobody kills."""
    daemon = Daemon(world)
    turn = daemon.turn(due=True)
    daemon.end()
    kit.tell("cycled", points=turn.points, error=turn.error, events=turn.events, left=rest(world))


def rest(world: World) -> dict[str, list[str]]:
    """Tell what is on the host while nobody works; take references of it."""
    return {
        "snapshots": world.keep_references(),
        "devices": crash_world.devices(),
        "volumes": crash_world.volumes(),
    }


def compare(world: World, what: str) -> None:
    begun = time.monotonic()
    points = world.compare()
    kit.tell("compared", what=what, points=points, seconds=time.monotonic() - begun)


def main(kind: str, size_mib: str, chunk_size: str, *names: str) -> None:
    begun = time.monotonic()
    world = World(kind, int(size_mib) * kit.MIB, int(chunk_size))
    world.make()
    kit.tell("made", seconds=time.monotonic() - begun)
    tracked = [name for name in names if not name.startswith("first:")]
    with world.load(seed=len(names)):
        for name in names:
            if name not in tracked:
                die(world, name)
                one_cycle(world)
                compare(world, name)
                world.start_round()
        if tracked:
            one_cycle(world)
            for name in tracked:
                die(world, name)
            one_cycle(world)
            compare(world, "tracked")


main(*sys.argv[1:])
