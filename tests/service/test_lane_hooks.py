"""Hooks where targets share snapshots: once for each snapshot, never two at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from blocksnapd.errors import HookError
from blocksnapd.service.lane_hooks import LaneCycleHooks, LaneHooks
from tests.several import EVERY_S, World

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.cycle.lane_source import LaneSource
    from blocksnapd.model import Taken
    from blocksnapd.service.hooks import VolumeHooks


class Hooks:
    """Notes its calls; ``refuses`` what was taken."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuses = False

    async def before(self, point_id: str) -> None:
        self.calls.append("before")
        await asyncio.sleep(0)

    async def after(self, point_id: str, taken: Taken | None) -> str:
        self.calls.append("after" if taken else "after none")
        if self.refuses:
            raise HookError("refused")
        return "application"

    async def settle(self) -> None:
        self.calls.append("settle")


async def take(world: World, target: str, hooks: Hooks, newer_than: float = 0.0) -> str:
    """Do what a cycle does around a snapshot; return the consistency."""
    source = cast("LaneSource", world.volumes[target].source)
    lane, taken = LaneCycleHooks(source, hooks, newer_than), None
    point_id = f"p-{target}-{len(hooks.calls)}"
    try:
        await lane.before(point_id)
        taken = await source.take(point_id)
    finally:
        consistency = await lane.after(point_id, taken)
    return consistency


def test_once_for_each_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        world, hooks = World(tmp_path, ("a", "b")), Hooks()
        await world.start()
        said = await asyncio.gather(take(world, "a", hooks), take(world, "b", hooks))
        assert said == ["application", "application"]
        assert hooks.calls == ["before", "after"]
        assert len(world.host.snapshots) == 1
        # Who asks for a point gets one of now.
        await take(world, "b", hooks, newer_than=world.clock.time + 1)
        assert hooks.calls == ["before", "after"] * 2
        world.clock.time += EVERY_S
        await take(world, "a", hooks)
        assert hooks.calls == ["before", "after"] * 3
        assert not world.shared.gate.locked()

    asyncio.run(story())


def test_what_a_hook_refused_is_shared_by_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        world, hooks = World(tmp_path, ("a", "b")), Hooks()
        await world.start()
        hooks.refuses = True
        with pytest.raises(HookError):
            await take(world, "a", hooks)
        hooks.refuses = False
        assert await take(world, "b", hooks) == "application"
        assert hooks.calls == ["before", "after"] * 2
        assert not world.shared.gate.locked()

    asyncio.run(story())


def test_what_is_owed_is_settled_in_turn(tmp_path: Path) -> None:
    async def story() -> None:
        world, hooks = World(tmp_path, ("a", "b")), Hooks()
        await world.start()
        lane = LaneHooks(cast("VolumeHooks", hooks), world.shared)
        source = cast("LaneSource", world.volumes["a"].source)
        await source.enter(0.0)
        settling = asyncio.create_task(lane.settle())
        await asyncio.sleep(0.01)
        assert not hooks.calls
        source.leave()
        await settling
        assert hooks.calls == ["settle"]

    asyncio.run(story())
