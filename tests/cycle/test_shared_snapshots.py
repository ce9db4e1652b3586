"""Several targets against a reference: kills between any two steps, lines that stand still."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BlocksnapError, StoreError, SupersededError
from blocksnapd.runtime import durable
from tests.several import EVERY_S, KilledError, World, ticking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from blocksnapd.model import RestorePoint

    Tasks = dict[str, asyncio.Task[RestorePoint | None]]

STRIDE = 5  # one of so many steps is killed at; all the others in the long tests
READ_AHEAD_MAX = 6144  # blocks; a reader that stands still has not read all of so many

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill daemons only, so that nothing needs to reach a disk."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


async def recover(world: World) -> None:
    """Give every target a point of now; after that one snapshot tracks for all of them."""
    for _ in range(2):
        for target, store in world.stores.items():
            store.is_away = store.loses_answers = store.is_away_after = False
            store.line.set()
            for _ in range(3):
                try:
                    if await world.cycle(target) is not None:
                        break
                except BlocksnapError:
                    continue
        world.clock.time += EVERY_S
    world.check()
    assert all(s.kept[-1].image == world.host.content for s in world.stores.values())
    assert len(world.host.snapshots) == 1


def methods(world: World, target: str) -> list[str]:
    return [k.point.facts.method for k in world.stores[target].kept]


def test_two_targets_share_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("a", "b")), random.Random(1)
        await world.start()
        for _ in range(4):
            world.scribble(dice)
            for target in world.targets:
                point = await world.cycle(target)
                assert point is not None
                world.clock.time += 1
            world.clock.time += EVERY_S
            assert len(world.host.snapshots) == 1
        assert len(world.host.instants) == 4
        assert methods(world, "a") == methods(world, "b") == ["first", *["tracked"] * 3]
        assert world.stores["b"].kept[-1].point.facts.proof.checked_blocks > 0
        world.check()

    asyncio.run(story())


def test_one_that_stands_still_delays_nobody_and_catches_up(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("fast", "slow"), blocks=4096), random.Random(2)
        await world.start()
        world.scribble(dice, 50)
        for target in world.targets:
            await world.cycle(target)
        for _ in range(3):
            world.clock.time += EVERY_S
            world.scribble(dice)
            slow = await world.stuck("slow")
            for _ in range(5):
                world.clock.time += EVERY_S
                world.scribble(dice)
                assert await world.cycle("fast") is not None
                assert not slow.done()
            world.stores["slow"].line.set()
            assert await slow is not None
        assert set(methods(world, "slow")) == set(methods(world, "fast")) == {"first", "tracked"}
        await recover(world)

    asyncio.run(story())


def test_one_that_is_away_for_days_costs_one_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("away", "fast")), random.Random(3)
        await world.start()
        for target in world.targets:
            world.scribble(dice)
            await world.cycle(target)
        world.stores["away"].is_away = True
        for turn in range(10):
            world.clock.time += EVERY_S
            world.scribble(dice, 1)
            with pytest.raises(StoreError):
                await world.cycle("away")
            assert await world.cycle("fast") is not None
            assert len(world.host.snapshots) == (1 if turn else 2)  # once it is waited for
        world.stores["away"].is_away = False
        point = await world.cycle("away")
        assert point is not None
        assert point.facts.method == "tracked"  # what it lacks was written down
        await recover(world)

    asyncio.run(story())


def test_a_reader_loses_its_snapshot_when_too_much_changed_since(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("fast", "slow"), READ_AHEAD_MAX), random.Random(4)
        await world.start()
        for target in world.targets:
            await world.cycle(target)
        world.write(0, dice.randbytes(len(world.host.content)))
        world.clock.time += EVERY_S
        slow = await world.stuck("slow")
        for part in range(4):
            world.clock.time += EVERY_S
            world.write(part << 20, dice.randbytes(1 << 20))
            assert await world.cycle("fast") is not None
        world.stores["slow"].line.set()
        with pytest.raises(SupersededError):
            await slow
        point = await world.cycle("slow")
        assert point is not None
        assert point.facts.method == "tracked"
        await recover(world)

    asyncio.run(story())


def test_two_slow_ones_take_turns(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("fast", "s1", "s2"), READ_AHEAD_MAX), random.Random(5)
        world.write(0, dice.randbytes(len(world.host.content)))
        await world.start()
        tasks: Tasks = {}
        lost = {"s1": 0, "s2": 0}
        for turn in range(8):
            world.clock.time += EVERY_S
            world.scribble(dice, 1)
            assert await world.cycle("fast") is not None
            for target in ("s1", "s2")[: turn + 1]:  # else they would share one snapshot
                if target not in tasks:
                    world.clock.time += 1
                    tasks[target] = await world.stuck(target)
                elif not world.lane(target).reads or (
                    world.lane(target).reads not in world.host.snapshots
                ):
                    lost[target] += 1
                    world.stores[target].line.set()
                    with pytest.raises(SupersededError):
                        await tasks.pop(target)
        assert min(lost.values()) > 0  # neither of them keeps the other from its turn
        await world.kill(tasks)
        await recover(world)

    asyncio.run(story())


async def _busy_day(world: World, dice: random.Random, tasks: Tasks) -> None:
    """Go through the ways that snapshots are taken, shared, folded, hung and read from."""
    for target in ("a", "b", "a", "b", "a"):
        world.scribble(dice)
        world.clock.time += EVERY_S if target == "a" else 1
        await world.cycle(target)
    world.scribble(dice, 1)
    world.clock.time += EVERY_S
    tasks["b"] = await world.stuck("b")
    for _ in range(3):
        world.scribble(dice, 1)
        world.clock.time += EVERY_S
        await world.cycle("a")
    world.stores["b"].line.set()
    await tasks.pop("b")
    world.stores["b"].is_away = True
    world.scribble(dice, 1)
    world.clock.time += EVERY_S
    await world.cycle("a")


@pytest.mark.parametrize(
    "first", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, STRIDE + 1))]
)
def test_killed_before_and_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    async def story(number: int) -> bool:
        path = tmp_path / str(number)
        path.mkdir()
        world, dice, tasks = World(path, ("a", "b"), blocks=512), random.Random(6), {}
        with monkeypatch.context() as patch:
            patch.setattr(durable, "replace", ticking(world))
            await world.start()
            world.kill_in = number
            is_over = False
            try:
                await _busy_day(world, dice, tasks)
                is_over = True
            except KilledError:
                is_over = False
            except SupersededError:  # another one was killed, and this one with it
                is_over = False
            await world.kill(tasks)
        world.check()
        await recover(world)
        return is_over

    number = first
    while not asyncio.run(story(number)):
        number += STRIDE
    assert number > 100


@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(n, marks=pytest.mark.long) for n in range(20, 100))]
)
def test_any_walk_keeps_every_point_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    world = World(tmp_path, ("a", "b", "c")[: dice.choice([2, 2, 3])], dice.choice([48, 512]))

    async def attempt(work: Callable[[], Awaitable[object]], tasks: Tasks) -> None:
        try:
            await work()
        except BlocksnapError:
            pass
        except KilledError:
            await world.kill(tasks)

    async def walk() -> None:
        tasks: Tasks = {}
        await world.start()
        for _ in range(30):
            target = dice.choice(world.targets)
            store = world.stores[target]
            deed = dice.randrange(10)
            world.clock.time += dice.choice([0, 1, EVERY_S / 3, EVERY_S])
            if deed < 3:
                world.scribble(dice, dice.choice([1, 3, 12]))
            elif deed == 3:
                store.is_away = not store.is_away
            elif deed == 4:
                store.loses_answers = not store.loses_answers
                store.is_away_after = dice.random() < 0.5
            elif deed == 5 and world.host.snapshots:
                lost = dice.choice(list(world.host.snapshots.values()))
                lost.state = "invalid" if dice.random() < 0.3 else lost.state
            elif deed == 6:
                world.kill_in = dice.randrange(1, 60)
            elif target in tasks:
                store.line.set()
                await attempt(lambda t=target: tasks.pop(t), tasks)
            elif deed == 7:
                task = await world.stuck(target)
                tasks[target] = task
            else:
                store.line.set()
                await attempt(lambda t=target: world.cycle(t), tasks)
            world.check()
        await world.kill(tasks)
        await recover(world)

    monkeypatch.setattr(durable, "replace", ticking(world))
    asyncio.run(walk())


def test_what_was_taken_for_one_target_is_taken_up_by_several(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("a", "b")), random.Random(7)
        await world.start()
        world.scribble(dice)
        point = await world.cycle("a")
        assert point is not None
        assert list(world.host.snapshots) == [point.facts.point_id]
        (tmp_path / "shared").unlink()  # as it is with one target
        world.scribble(dice)
        world.clock.time += EVERY_S
        await world.start()
        point = await world.cycle("a")
        assert point is not None
        assert point.facts.method == "tracked"
        assert point.facts.proof.checked_blocks > 0
        await recover(world)

    asyncio.run(story())


def test_a_damaged_record_costs_a_compare_and_no_truth(tmp_path: Path) -> None:
    async def story() -> None:
        world, dice = World(tmp_path, ("a", "b")), random.Random(8)
        await world.start()
        for target in world.targets:
            world.scribble(dice)
            await world.cycle(target)
        (tmp_path / "shared").write_bytes(b"rubbish")
        world.scribble(dice)
        world.clock.time += EVERY_S
        await world.start()
        assert not world.host.snapshots
        point = await world.cycle("a")
        assert point is not None
        assert (point.facts.method, point.facts.reason) == ("compare", "tracking-gone")
        assert "journal-lost" in world.events
        await recover(world)

    asyncio.run(story())
