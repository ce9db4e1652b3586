"""What is seen of a volume's COW space, and what follows from it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import DeviceMapperError
from tests.service.bench import EVERY_S, Bench, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class FakeWatch:
    """A COW space as the test says: ``used`` by the snapshots of points. Notes the looks."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.free = 1000
        self.trouble: Exception | None = None
        self.asked: list[str] = []

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        self.asked.append(point_id)
        if self.trouble is not None:
            raise self.trouble
        return self.used.get(point_id, 0), 1000

    directory = "/mnt/snapshots"

    async def end_views(self) -> list[str]:
        return []

    def disk_room(self) -> tuple[int, int] | None:
        return self.free, 100


async def looked(bench: Bench, watch: FakeWatch) -> None:
    """Let the task look at its COW space once more."""
    seen = len(watch.asked)
    await bench.pass_time(2)
    await until(lambda: len(watch.asked) > seen)
    await bench.idle()


@pytest.mark.parametrize(
    ("used", "free", "is_early"),
    [(700, 1000, False), (701, 1000, True), (26, 200, False), (25, 199, False), (26, 199, True)],
)
async def test_a_cycle_is_due_early_when_the_cow_space_fills(
    bench: Bench, used: int, free: int, is_early: bool
) -> None:
    watch = FakeWatch()
    bench.watch = watch
    async with bench.running():
        await bench.idle()
        await looked(bench, watch)
        assert bench.results == ["success"]
        watch.used[watch.asked[-1]], watch.free = used, free
        await looked(bench, watch)
        assert bench.results == ["success"] * (1 + is_early)
    assert bench.metric("cow_size_bytes", volume="vg0/home") == 1000
    assert set(watch.asked) <= {k.point.facts.point_id for k in bench.store.kept}
    assert bench.task.cow_watch.use is not None


async def test_a_full_cow_space_does_not_hurry_what_fails(bench: Bench) -> None:
    """A target that is down and a COW that fills: the retry rhythm holds, no busy loop."""
    watch = FakeWatch()
    async with bench.running():
        await bench.idle()
    watch.used = {k.point.facts.point_id: 900 for k in bench.store.kept}
    bench.watch = watch
    bench.clock.jump(EVERY_S)
    bench.new_task()
    bench.store.room = 0
    bench.host.write(0, b"\5" * 4096)
    async with bench.running():
        await bench.idle()
        for _ in range(3):
            await looked(bench, watch)
        assert bench.results == ["success", "failed"]
        assert bench.task.cow_watch.use == {"size": 1000, "used": 900}


@pytest.mark.parametrize(
    "trouble", [DeviceMapperError("no such device"), OSError("gone"), KeyError("a mistake")]
)
async def test_a_cow_space_that_cannot_be_seen_ends_nothing(
    bench: Bench, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    watch = FakeWatch()
    watch.trouble = trouble
    bench.watch = watch
    async with bench.running():
        await bench.idle()
        for _ in range(3):
            await looked(bench, watch)
        assert bench.results == ["success"]
        said = [r for r in caplog.records if "COW use is not known" in r.message]
        assert len(said) == 1  # once, not at every look
        watch.trouble, watch.used = None, {watch.asked[-1]: 900}
        await looked(bench, watch)
        assert bench.results == ["success"] * 2
