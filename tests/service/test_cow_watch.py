"""What is seen of a volume's COW space, and what follows from it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.cow_sizing import cow_size_max
from blocksnapd.errors import DeviceMapperError
from blocksnapd.units import Amount
from tests.service.bench import EVERY_S, ROOT, SETTINGS, Bench, until

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.cow_messages import CowUse


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class FakeWatch:
    """A COW space as the test says: ``used`` by the snapshots of points. Notes the looks.

    What grows, grows by ``step``; 0: it cannot.
    """

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.lost: set[str] = set()
        self.grown: list[tuple[str, float]] = []
        self.step = 0
        self.free = 1000
        self.trouble: Exception | None = None
        self.asked: list[str] = []

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        self.asked.append(point_id)
        if self.trouble is not None:
            raise self.trouble
        if point_id in self.lost:
            return None
        return self.used.get(point_id, 0), self.sizes.get(point_id, 1000)

    directory = "/mnt/snapshots"

    async def end_views(self) -> list[str]:
        return []

    def is_given_up(self, point_id: str) -> bool:
        return point_id in self.lost

    async def grow(self, point_id: str, rate: float) -> int:
        self.grown.append((point_id, rate))
        self.sizes[point_id] = self.sizes.get(point_id, 1000) + self.step
        return self.step

    def disk_room(self) -> tuple[int, int] | None:
        return self.free, 100


def use_of(bench: Bench) -> CowUse:
    use = bench.task.cow_watch.use
    assert use is not None
    return use


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
        use = use_of(bench)
        assert (use["size"], use["used"]) == (1000, 900)


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


# --- devices smaller than a volume can need ------------------------------------------------------


@pytest.fixture
async def small(tmp_path: Path) -> Bench:
    """A bench whose COW devices have 1000 bytes, and may grow."""
    assert SETTINGS.cow is not None
    cow = SETTINGS.cow.model_copy(update={"size": Amount(size=1000)})
    bench = Bench(tmp_path, settings=SETTINGS.model_copy(update={"cow": cow}))
    bench.watch = FakeWatch()
    return bench


def fake(bench: Bench) -> FakeWatch:
    assert isinstance(bench.watch, FakeWatch)
    return bench.watch


def newest(bench: Bench) -> str:
    return bench.store.kept[-1].point.facts.point_id


def events(bench: Bench) -> list[str]:
    return [kind for kind, *_ in bench.events if kind.startswith("cow")]


async def test_what_fills_is_foretold(small: Bench) -> None:
    watch = fake(small)
    async with small.running():
        await small.idle()
        for used in (10, 20, 30):
            watch.used[newest(small)] = used
            await looked(small, watch)
        use = use_of(small)
        assert use["rate"] == pytest.approx(5.0)
        assert use["full_in"] == pytest.approx(970 / 5)
        full = small.metric("cow_full_timestamp_seconds", volume="vg0/home")
        assert full == pytest.approx(small.clock.now() + 970 / 5, abs=3)
        for _ in range(40):
            await looked(small, watch)
        assert use is not small.task.cow_watch.use
        assert small.metric("cow_full_timestamp_seconds", volume="vg0/home") is None


async def test_a_device_of_full_size_is_never_full(bench: Bench) -> None:
    bench.watch = watch = FakeWatch()
    async with bench.running():
        await bench.idle()
        for used in (100, 300, 500):
            watch.used[newest(bench)] = used
            await looked(bench, watch)
        use = use_of(bench)
        assert (use["full_in"], use["advice"], watch.grown) == (None, "", [])
    assert bench.results == ["success"]


async def test_a_cycle_first_and_growth_only_where_it_may_come_too_late(small: Bench) -> None:
    watch = fake(small)
    watch.step = 500
    async with small.running():
        await small.idle()
        for used in range(20, 701, 20):  # 10 a second: a cycle has half a minute
            watch.used[newest(small)] = used
            await looked(small, watch)
        assert small.results == ["success"]
        watch.used[newest(small)] = 701
        await looked(small, watch)
        assert (small.results, watch.grown) == (["success"] * 2, [])
        base = newest(small)
        watch.used[base] = 200  # 800 more in 8 s
        await looked(small, watch)
        assert [point_id for point_id, _ in watch.grown] == [base]
        assert small.results == ["success"] * 3
    assert events(small) == ["cow-extended"]
    assert small.metric("cow_extends_total", volume="vg0/home") == 1


async def test_what_no_cycle_can_help_grows(small: Bench) -> None:
    """While one is at work, also the new snapshot; and while the target is down."""
    watch = fake(small)
    watch.step = 500
    async with small.running():
        await small.idle()
        base = newest(small)
        small.store.go.clear()
        small.store.arrived.clear()
        small.host.write(0, b"\2" * 4096)
        small.task.ask(tags=(), full=False, who=ROOT)
        await small.shipping()
        (pending,) = set(small.host.snapshots) - {base}
        watch.used = {base: 720, pending: 730}
        await until(lambda: small.clock.sleeping > 0)
        await small.clock.advance(2)
        await until(lambda: len(watch.grown) == 2)
        assert {point_id for point_id, _ in watch.grown} == {base, pending}
        small.store.go.set()
        await small.idle()
    assert small.results == ["success"] * 2


async def test_what_cannot_grow_is_told_once(small: Bench) -> None:
    watch = fake(small)
    async with small.running():
        await small.idle()
        small.store.room = 0
        small.host.write(0, b"\2" * 4096)
        await small.pass_time(EVERY_S)
        assert small.results[-1] == "failed"
        watch.used[newest(small)] = 900
        for _ in range(4):
            await looked(small, watch)
    assert events(small) == ["cow-cannot-grow"]
    assert len(watch.grown) == 1  # not at every look: it forks
    assert small.metric("cow_extends_total", volume="vg0/home") is None


async def test_an_overflow_is_told_at_once_and_shown_as_full(small: Bench) -> None:
    watch = fake(small)
    async with small.running():
        await small.idle()
        watch.used[newest(small)] = 30
        await looked(small, watch)
        watch.lost.add(newest(small))
        for _ in range(3):
            await looked(small, watch)
        use = use_of(small)
        assert (use["used"], use["is_lost"], use["full_in"]) == (1000, True, None)
        assert small.metric("cow_used_bytes", volume="vg0/home") == 1000
        assert small.results == ["success"]  # no hurry: one that overflows always would never rest
        await small.pass_time(EVERY_S)
        await looked(small, watch)
        use = use_of(small)
        assert not use["is_lost"]
    assert events(small) == ["cow-overflow"]


async def test_what_was_seen_becomes_advice(small: Bench) -> None:
    watch = fake(small)
    async with small.running():
        await small.idle()
        await looked(small, watch)
        use = use_of(small)
        assert (use["advised"], use["advice"]) == (None, "")
        watch.used[newest(small)] = 600
        await looked(small, watch)
        await small.pass_time(EVERY_S)
        await looked(small, watch)
        use = use_of(small)
        # 16 blocks and what their table takes; more than that no COW device of it can use.
        assert use["advised"] == cow_size_max(16 * 4096, 4096)
        assert "cow.size should be" in use["advice"]
