"""One volume's task over a host and a repository in memory, on a clock turned by hand."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from blocksnapd.config import Cow, Retry, Volume
from blocksnapd.cycle.hook_journal import HookJournal
from blocksnapd.cycle.journal import Journal
from blocksnapd.metrics import Metrics
from blocksnapd.packing import PACKING_DEFAULT
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.catalogue import Catalogue
from blocksnapd.service.cow_watch import WATCH_INTERVAL_S
from blocksnapd.service.hooks import VolumeHooks
from blocksnapd.service.opened import Opened
from blocksnapd.service.runs import RunBook
from blocksnapd.service.volume_task import VolumeTask
from blocksnapd.ship.fingerprints import FingerprintStore
from blocksnapd.shipping import Volume as Parts
from blocksnapd.store.outline import PointOutline
from tests.cycle.test_hook_runner import PlainRunner
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_volume import MemorySource, MemoryVolume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from blocksnapd.control.messages import Severity, Who
    from blocksnapd.model import HostView, PointHead, Taken
    from blocksnapd.ports import KnownContent
    from blocksnapd.service.opened import Watch
    from blocksnapd.service.runs import LiveRun
    from tests.fakes.memory_store import MemorySink

EVERY_S = 300.0
WHERE = {"volume": "vg0/home", "target": "near"}
ROOT: Who = {"pid": 1, "uid": 0, "login": "root"}
SETTINGS = Volume(
    name="vg0/home", driver="lvm", target="near", every_s=EVERY_S, rpo_s=2 * EVERY_S,
    cow=Cow(space="spare", chunk_size=4096, freeze_max_s=2.0),
    retry=Retry.model_validate({"first": "10s", "factor": 2.0, "max": "60s"}),
    block_size=4096, compression=PACKING_DEFAULT,
)  # fmt: skip


class Source(MemorySource):
    """Snapshots of the hand-turned clock's instants; ``trouble`` is raised at each look."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.host)
        self._bench = bench

    async def observe(self, *, again: bool = False) -> HostView:
        if self._bench.trouble is not None:
            raise self._bench.trouble
        return await super().observe(again=again)

    async def take(self, point_id: str) -> Taken:
        if self._bench.take_trouble is not None:
            self._bench.take_trouble()
        taken = await super().take(point_id)
        return replace(taken, time=datetime.fromtimestamp(self._bench.clock.now(), UTC))


class Store(MemoryStore):
    """A store at which shipping waits until ``go`` is set; ``arrived`` says that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def begin(
        self,
        volume_id: str,
        point_id: str,
        *,
        block_size: int,
        base: PointHead | None,
        known: KnownContent | None = None,
        log: str = "",
    ) -> MemorySink:
        self.arrived.set()
        assert self.go.wait(20)
        return super().begin(volume_id, point_id, block_size=block_size, base=base, known=known)


class Bench:
    """A host, a repository and a state directory that outlive the task."""

    def __init__(self, path: Path, *, settings: Volume = SETTINGS) -> None:
        self.clock = ManualClock()
        self.host = MemoryVolume(16 * 4096)
        self.host.write(0, b"\1" * 8192)
        self.store = Store()
        self.book = RunBook(self.clock)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.slots = asyncio.Semaphore(2)
        self.settings = settings
        self.events: list[tuple[str, Severity, str]] = []
        self.watch: Watch | None = None
        self.trouble: Exception | None = None  # of the source
        self.take_trouble: Callable[[], None] | None = None
        self.closed: Exception | None = None  # of opening
        self.openings = 0
        self.door = asyncio.Event()
        self.door.set()
        self._directory = os.path.join(path, settings.name.replace("/", "-"))
        self.task = self.new_task()

    def new_task(self) -> VolumeTask:
        """Return the task of a daemon that has just been started."""
        self.task = VolumeTask(
            self.settings, self._open, book=self.book, metrics=self.metrics, say=self._say,
            clock=self.clock, slots=self.slots,
            hooks=VolumeHooks(
                self.settings, PlainRunner(), HookJournal(self._directory), self.metrics, self._say
            ),
        )  # fmt: skip
        return self.task

    async def _open(self) -> Opened:
        self.openings += 1
        await self.door.wait()
        if self.closed is not None:
            raise self.closed
        journal = Journal.open(self._directory, volume_id="memory-volume", volume_name="m")
        parts = Parts(
            self.settings.name, "memory-volume", 4096, Source(self), self.store,
            FingerprintStore(self._directory + "/f"), journal, self.clock,
        )  # fmt: skip
        catalogue = Catalogue(self._directory, self.settings.name, self.settings.target)
        outlines = {kept.point.name: outline(kept.point.head) for kept in self.store.kept}
        await catalogue.load(outlines, outlines.get)
        return Opened(parts, catalogue, self.watch)

    def _say(
        self, kind: str, message: str, *, severity: Severity, volume: str, data: dict[str, object]
    ) -> None:
        self.events.append((kind, severity, message))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[VolumeTask]:
        """Run the task from its start; stop it in good order at the end."""
        work = asyncio.create_task(self.task.run())
        try:
            yield self.task
        finally:
            self.task.stop()
            self.door.set()
            self.store.go.set()
            async with asyncio.timeout(20):
                await work

    async def idle(self) -> LiveRun | None:
        """Wait until the task has nothing to do but to wait; return the run that ended last."""
        await until(lambda: not self.task.is_at_work and self.clock.sleeping > 0)
        return self.book.last(self.settings.name)

    async def pass_time(self, seconds: float) -> None:
        """Turn the clock so that what became due ends, even in a thread, before it goes on."""
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 0:
            await self.clock.advance(min(left, WATCH_INTERVAL_S))
            await self.idle()

    async def shipping(self) -> None:
        """Wait until a cycle waits at the store; ``store.go`` was cleared before."""
        assert await asyncio.to_thread(self.store.arrived.wait, 20)
        self.store.arrived.clear()

    @property
    def results(self) -> list[str | None]:
        """How the runs ended, oldest first; None is one that has not."""
        return [r.result for r in self.book.newest_first(self.settings.name)[::-1]]

    def metric(self, name: str, **labels: str) -> float | None:
        """Return one series' value."""
        return self.registry.get_sample_value(f"blocksnap_{name}", labels)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop and its threads work until ``condition`` holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what a thread does sets no event
            await asyncio.sleep(0.001)


def outline(head: PointHead) -> PointOutline:
    """Return a point as its clear header would tell it."""
    return PointOutline(
        name=head.name, seq=head.seq, point_id=head.point_id, time=head.time, kind="delta",
        size=head.size, block_size=head.block_size, object_size=0,
    )  # fmt: skip
