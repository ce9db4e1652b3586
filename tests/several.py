"""A volume with several targets for tests: its host and repositories outlive the daemon. Edge.

The reference is the volume's whole content at each time at which it was written to. The host fails
the test when a third snapshot is taken, or one is removed that somebody holds open.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blocksnapd.cycle.journal import Journal
from blocksnapd.cycle.lane_source import LaneSource
from blocksnapd.cycle.rotation import Asked
from blocksnapd.cycle.shared_snapshots import SNAPSHOTS_MAX, SharedSnapshots
from blocksnapd.pipeline import Cycle
from blocksnapd.runtime import durable
from blocksnapd.ship.fingerprints import FingerprintStore
from blocksnapd.shipping import Volume
from tests.fakes.memory_store import MemorySink, MemoryStore
from tests.fakes.memory_volume import MemoryReader, MemorySource, MemoryVolume

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from blocksnapd.cycle.lane import Lane
    from blocksnapd.model import U8, U64, RestorePoint, Taken
    from blocksnapd.ship.shipper import Progress

BLOCK = 4096
EVERY_S = 100.0


class KilledError(BaseException):
    """Ends the daemon where a SIGKILL would."""


class Reporter:
    """Notes events; kills at a step when told."""

    def __init__(self, world: World) -> None:
        self._world = world

    def step(self, _name: str) -> None:
        self._world.tick()

    def phase(self, name: str, seconds: float) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def event(self, kind: str, _message: str, **_: object) -> None:
        self._world.events.append(kind)


class StuckStore(MemoryStore):
    """A target whose line can stand still: whoever ships waits at ``line``."""

    def __init__(self) -> None:
        super().__init__()
        self.line = threading.Event()
        self.line.set()
        self.reached = threading.Event()
        self.is_cut = False  # once it goes on, the daemon is found dead

    def begin(self, *args: object, **kwargs: object) -> MemorySink:
        sink = super().begin(*args, **kwargs)  # type: ignore[arg-type]
        add = sink.add

        def slowly(blocks: U64, hashes: U8, data: memoryview) -> None:
            self.reached.set()
            assert self.line.wait(20)
            if self.is_cut:
                raise KilledError
            add(blocks, hashes, data)

        sink.add = slowly  # type: ignore[method-assign]
        return sink


class StrictSource(MemorySource):
    """One way to the snapshots of a :class:`World`."""

    def __init__(self, world: World) -> None:
        super().__init__(world.host)
        self._world = world
        self._readers: list[tuple[str, _Reader]] = []

    async def take(self, point_id: str) -> Taken:
        assert len(self.volume.snapshots) < SNAPSHOTS_MAX, "a third snapshot"
        assert point_id not in self.volume.snapshots
        self._world.tick()
        taken = await super().take(point_id)
        self._world.tick()
        return replace(taken, time=datetime.fromtimestamp(self._world.clock.time, UTC))

    async def remove(self, point_id: str) -> None:
        assert not self._world.open_readers.get(point_id), "removed while it is open"
        self._world.tick()
        await super().remove(point_id)
        self._world.tick()

    def open_snapshot(self, point_id: str) -> _Reader:
        reader = _Reader(self._world, point_id)
        self._readers.append((point_id, reader))
        return reader

    def let_go(self, snapshot_id: str) -> None:
        for held_id, reader in self._readers:
            if held_id == snapshot_id:
                reader.close()


class _Reader(MemoryReader):
    def __init__(self, world: World, snapshot_id: str) -> None:
        super().__init__(world.host.snapshots[snapshot_id].instant)
        self._world, self._id, self._is_open = world, snapshot_id, True
        world.open_readers[snapshot_id] = world.open_readers.get(snapshot_id, 0) + 1

    def read_into(self, offset: int, view: memoryview) -> None:
        assert self._is_open, "read after it was closed"
        snapshot = self._world.host.snapshots[self._id]  # a removed one has no content
        if snapshot.state != "good":
            view[:] = b"\xee" * len(view)  # the kernel gives an error; garbage is worse
            return
        super().read_into(offset, view)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._world.open_readers[self._id] -= 1


class _Clock:
    def __init__(self) -> None:
        self.time = 1_767_225_600.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, _seconds: float) -> None: ...


class World:
    """A host, its repositories and its state directory; ``start`` begins a daemon's life."""

    def __init__(self, path: Path, targets: tuple[str, ...], blocks: int = 48) -> None:
        self.path, self.targets = str(path), targets
        self.host = MemoryVolume(blocks * BLOCK)
        self.stores = {target: StuckStore() for target in targets}
        self.history = [(0.0, bytes(self.host.content))]
        self.events: list[str] = []
        self.open_readers: dict[str, int] = {}
        self.clock = _Clock()
        self.kill_in = -1  # so many ticks from now; negative: never
        self._ticks = threading.Lock()

    def tick(self) -> None:
        """One step more is done; this may be the one before which the daemon is killed."""
        with self._ticks:
            self.kill_in -= 1
            if self.kill_in == 0:
                raise KilledError

    async def start(self) -> None:
        """Begin a daemon's life: nothing of the one before is in memory."""
        self.open_readers.clear()
        self.shared = SharedSnapshots(
            self.path, self.targets, every_s=EVERY_S, clock=self.clock,
            tell=lambda kind, _: self.events.append(kind),
        )  # fmt: skip
        await self.shared.open(StrictSource(self))
        self.volumes = {target: self._volume(target) for target in self.targets}
        self.cycles: dict[str, Cycle] = {}

    def _volume(self, target: str) -> Volume:
        directory = os.path.join(self.path, target)
        source = LaneSource(self.shared, target, StrictSource(self))
        return Volume(
            "m", "memory-volume", BLOCK, source, self.stores[target],
            FingerprintStore(os.path.join(directory, "fingerprints")),
            Journal.open(directory, volume_id="memory-volume", volume_name="m"),
            self.clock, os.path.join(directory, "session"),
        )  # fmt: skip

    async def cycle(self, target: str) -> RestorePoint | None:
        """Run a cycle of one target; return the point it committed."""
        cycle = self.cycles[target] = Cycle(self.volumes[target], Reporter(self))
        await cycle.run(Asked(due=True))
        return cycle.committed[-1] if cycle.committed else None

    async def stuck(self, target: str) -> asyncio.Task[RestorePoint | None]:
        """Begin a cycle that stands still at its target; return it, or one that ended."""
        store = self.stores[target]
        store.line.clear()
        store.reached.clear()
        task = asyncio.create_task(self.cycle(target))
        reached = asyncio.create_task(asyncio.to_thread(store.reached.wait, 20))
        await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
        store.reached.set()
        await reached
        return task

    async def kill(self, tasks: dict[str, asyncio.Task[RestorePoint | None]]) -> None:
        """End the daemon at once, and what stands still at its targets; start another one."""
        for target, task in tasks.items():
            self.stores[target].is_cut = True
            self.stores[target].line.set()
            with contextlib.suppress(KilledError, Exception):
                await task
            self.stores[target].is_cut = False
        tasks.clear()
        self.kill_in = -1
        await self.start()

    def write(self, offset: int, data: bytes) -> None:
        """Write to the volume, and remember from when on it holds what."""
        self.host.write(offset, data)
        self.clock.time += 0.001
        self.history.append((self.clock.time, bytes(self.host.content)))

    def lane(self, target: str) -> Lane:
        """Return what the daemon knows of a target's use of the snapshots."""
        return self.shared.lanes[target]

    def scribble(self, dice: random.Random, writes: int = 4) -> None:
        """Write here and there."""
        for _ in range(writes):
            at, length = dice.randrange(len(self.host.content)), dice.choice([1, 4096, 9000])
            length = min(length, len(self.host.content) - at)
            self.write(at, bytes(length) if dice.random() < 0.2 else dice.randbytes(length))

    def content_at(self, time: float) -> bytes:
        """Return what the volume held at a time."""
        at = bisect.bisect_right(self.history, time + 0.0001, key=lambda entry: entry[0])
        return self.history[at - 1][1]

    def check(self) -> None:
        """Every point of every target is the volume at its instant; nothing seemed to lie."""
        for target, store in self.stores.items():
            for kept in store.kept:
                facts = kept.point.facts
                assert kept.image == self.content_at(facts.time.timestamp()), (target, facts)
        lies = {"tracking-lied", "proof-mismatch", "fingerprints-wrong"}
        assert not lies.intersection(self.events)
        assert len(self.host.snapshots) <= SNAPSHOTS_MAX


def ticking(world: World) -> Callable[..., None]:
    """Return ``durable.replace`` that may be killed before and after."""
    put = durable.replace

    def ticked(path: str, data: bytes, *, mode: int = 0o600) -> None:
        world.tick()
        put(path, data, mode=mode)
        world.tick()

    return ticked
