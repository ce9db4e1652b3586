"""A small repository as a value, and every step that anyone may take from it.

    writers       look · begin · put a pack · look · put the point · look, acknowledge
    receivers     look · put the point · look, answer: each by itself, also once nobody waits for it
    collections   list packs · list points, mark · delete, one by one · tell it is done · publish
    repacking     put the new pack · publish where the slots are
    the rest      forget · bring back · expire · read · time · clocks that jump · death of anyone

Between any two steps anyone else may take any number of theirs, and whoever dies forgets all. A
volume has two blocks; a session writes one or both and keeps, or refers to, what the other held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.model.rules import OLD

REPACKED = 50  # packs above are repacked ones


class ViolationError(AssertionError):
    """A history that must not be."""


@dataclass(frozen=True)
class Limits:
    """What may happen, and how often."""

    writers: int = 2
    collectors: int = 1
    sessions: int = 3
    lists: int = 2
    repacks: int = 0
    jumps: int = 0
    reads: bool = False
    dies: bool = True
    locks: bool = True  # one writer at a time, and a collection can tell whether there is one
    is_honest: bool = True  # the writer's clock runs while it is stalled
    shows_late: bool = False  # what was put within a tick may not be seen yet
    is_blind: bool = False  # what a session sees of lists may be as old as itself
    sees_all: bool = True  # violations of a session's rights count, not only losses
    receivers: bool = False  # points are put by receivers, two or more before one bucket
    repeats: int = 0  # of one put


class Pack(NamedTuple):
    number: int
    age: int
    slots: tuple[int, ...]


class Point(NamedTuple):
    seq: int
    session: int
    epoch: int
    image: tuple[int, int]
    age: int
    is_trusted: bool = False  # acknowledged, or gone on from
    is_good: bool = True  # its session was within its limit
    forgotten: int = 0  # 1: just now, 2: for as long as it can be brought back at least


class List(NamedTuple):
    epoch: int
    newest_seq: int
    packs: tuple[int, ...]
    replaced: tuple[int, ...]
    age: int
    is_done: bool = False

    @property
    def key(self) -> tuple[int, int, tuple[int, ...]]:
        return self[:3]


class Writer(NamedTuple):
    pc: str = ""
    session: int = 0
    seq: int = 0
    base: int = 0
    base_epoch: int = 0
    noted: int = 0
    image: tuple[int, ...] = ()
    age: int = 0
    repeats: int = 0
    is_found: bool = False  # a receiver found the point there when it was put again


class Collector(NamedTuple):
    pc: str = ""
    packs: tuple[int, ...] = ()
    is_locked: bool | None = None
    ripe: int = 0  # the epoch that may be swept
    points: tuple[Point, ...] | None = None
    doomed: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()
    replaced: tuple[int, ...] = ()
    newest_seq: int = 0


class World(NamedTuple):
    packs: tuple[Pack, ...] = ()
    points: tuple[Point, ...] = ()
    lists: tuple[List, ...] = ()
    moved: tuple[tuple[int, int], ...] = ()
    writers: tuple[Writer, ...] = ()
    late: tuple[Writer, ...] = ()  # puts at receivers that nobody waits for
    collectors: tuple[Collector, ...] = ()
    reader: tuple[tuple[int, int], tuple[tuple[int, int], ...]] | None = None
    sessions: int = 0
    epoch: int = 0  # what the manifest says was published last
    repacks: int = 0
    jumps: int = 0
    is_forked: bool = False


def start(limits: Limits) -> World:
    """Return the empty repository."""
    writers, collectors = (Writer(),) * limits.writers, (Collector(),) * limits.collectors
    return World(writers=writers, collectors=collectors)


def is_there(world: World, slot: int, moved: tuple[tuple[int, int], ...]) -> bool:
    """Return whether the content of ``slot`` can be read by who knows ``moved``."""
    origin = slot // 2
    where = dict(moved).get(origin, origin)
    return any(p.number == where and slot in p.slots for p in world.packs)


def check(world: World) -> None:
    """Raise ``ViolationError`` if something is lost."""
    for point in world.points:
        if not (point.is_trusted or point.is_good):
            continue
        if not all(is_there(world, slot, world.moved) for slot in point.image):
            what = "acknowledged" if point.is_trusted else "honest"
            raise ViolationError(f"lost: {what} point {point.seq} of session {point.session}")
    if world.reader is not None:
        image, moved = world.reader
        if not all(is_there(world, slot, moved) for slot in image):
            raise ViolationError("lost: a reader in the middle of its work")


def tick(world: World, *, ages_points: bool = True) -> World:
    """Return the world a tick later; ``ages_points`` False where nobody asks for their age."""
    points = tuple(p._replace(forgotten=2) if p.forgotten else p for p in world.points)
    if ages_points:
        points = tuple(p._replace(age=min(p.age + 1, OLD)) for p in points)
    return world._replace(
        packs=tuple(p._replace(age=min(p.age + 1, OLD)) for p in world.packs),
        points=points,
        lists=tuple(x._replace(age=min(x.age + 1, OLD)) for x in world.lists),
        writers=tuple(
            w._replace(age=min(w.age + 1, OLD)) if w.pc not in ("", "chosen") else w
            for w in world.writers
        ),
        late=tuple(w._replace(age=min(w.age + 1, OLD)) for w in world.late),
        reader=None,
    )  # fmt: skip


def jumped(world: World) -> World:
    """Return the world after the store's clock jumped ahead."""
    return world._replace(
        packs=tuple(p._replace(age=OLD) for p in world.packs),
        points=tuple(p._replace(age=OLD) for p in world.points),
        lists=tuple(x._replace(age=OLD) for x in world.lists),
        jumps=world.jumps + 1,
    )


def with_writer(world: World, index: int, writer: Writer) -> World:
    """Return the world with a writer changed."""
    # Writers are alike: who is first says nothing.
    writers = sorted((*world.writers[:index], writer, *world.writers[index + 1 :]))
    return world._replace(writers=tuple(writers))


def with_collector(world: World, index: int, one: Collector) -> World:
    """Return the world with a collection changed."""
    return world._replace(
        collectors=(*world.collectors[:index], one, *world.collectors[index + 1 :])
    )
