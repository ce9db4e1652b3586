"""A target that stays away: what it costs the host, however long that is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import LvmError
from tests.service.bench import EVERY_S, ROOT, Bench
from tests.service.test_cow_watch import FakeWatch, looked

if TYPE_CHECKING:
    from pathlib import Path

MINUTE_S = 60.0


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.watch = FakeWatch()
    return made


def watch_of(bench: Bench) -> FakeWatch:
    assert isinstance(bench.watch, FakeWatch)
    return bench.watch


async def go_away(bench: Bench) -> str:
    """Make a point, lose the target, let a cycle fail; return the id of what tracks."""
    await bench.idle()
    (base,) = bench.host.snapshots
    bench.store.is_away = True
    bench.host.write(0, b"\2" * 4096)
    await bench.pass_time(EVERY_S)
    assert bench.results == ["success", "failed"]
    return base


async def come_back(bench: Bench) -> tuple[str, str]:
    """Let the target come back; return how and why the next point was made."""
    bench.store.is_away = False
    await bench.pass_time(MINUTE_S)
    facts = bench.store.kept[-1].point.facts
    assert bench.store.kept[-1].image == bench.host.instants[facts.point_id]
    assert set(bench.host.snapshots) == {facts.point_id}
    return facts.method, facts.reason


async def test_an_hour_without_a_target_costs_one_snapshot_and_tells_why(bench: Bench) -> None:
    async with bench.running() as task:
        base = await go_away(bench)
        for minute in range(60):
            bench.host.write(4096 * (minute % 16), bytes([minute + 3]) * 100)
            await bench.pass_time(MINUTE_S)
            assert set(bench.host.snapshots) == {base}
        assert bench.results.count("failed") == task.failures
        assert 60 <= task.failures <= 65  # the rhythm of its retries, and no busy loop
        assert task.cause is not None
        assert task.cause["code"] == "E-STORE"
        assert task.next_due_in_s() <= MINUTE_S
        assert await come_back(bench) == ("tracked", "")
        assert (task.failures, task.cause, len(bench.store.kept)) == (0, None, 2)


async def test_before_it_fills_the_disk_its_tracking_is_given_up(bench: Bench) -> None:
    async with bench.running():
        base = await go_away(bench)
        watch = watch_of(bench)
        watch.used[base], watch.free = 60, 99
        await looked(bench, watch)
        assert bench.host.snapshots == {}
        kind, severity, message = bench.events[-1]
        assert (kind, severity) == ("tracking-dropped", "error")
        assert "99 B free, less than its reserve of 100 B" in message
        bench.host.write(8192, b"\7" * 4096)
        for _ in range(3):  # once is enough
            await looked(bench, watch)
        assert [kind for kind, *_ in bench.events].count("tracking-dropped") == 1
        watch.free = 1000
        assert await come_back(bench) == ("compare", "cow-reserve")
        bench.host.write(0, b"\x09" * 4096)
        await bench.pass_time(EVERY_S)
        assert bench.store.kept[-1].point.facts.method == "tracked"


@pytest.mark.parametrize(
    ("used", "free"),
    [(60, 100), (39, 60), (0, 0)],  # the reserve is there; it would not come back; nothing to give
)
async def test_it_is_kept_where_that_would_not_help(bench: Bench, used: int, free: int) -> None:
    async with bench.running():
        base = await go_away(bench)
        watch = watch_of(bench)
        watch.used[base], watch.free = used, free
        for _ in range(3):
            await looked(bench, watch)
        assert set(bench.host.snapshots) == {base}


async def test_a_cycle_that_can_run_is_left_to_do_it(bench: Bench) -> None:
    """It removes the base, too, but has its point first if the room is there for it."""
    async with bench.running():
        await bench.idle()
        (base,) = bench.host.snapshots
        watch = watch_of(bench)
        watch.used[base], watch.free = 60, 99
        await looked(bench, watch)
        assert bench.results == ["success", "success"]
        assert "tracking-dropped" not in [kind for kind, *_ in bench.events]


async def test_what_is_paused_keeps_it(bench: Bench) -> None:
    """A restore in place relies on it, and has its own eye on the room."""
    async with bench.running() as task:
        base = await go_away(bench)
        watch = watch_of(bench)
        task.pausing.pause(None, "by hand", ROOT)
        watch.used[base], watch.free = 60, 99
        await looked(bench, watch)
        assert set(bench.host.snapshots) == {base}


async def test_an_overflow_while_it_is_away_is_a_compare_later(bench: Bench) -> None:
    async with bench.running():
        base = await go_away(bench)
        bench.host.snapshots[base].state = "invalid"
        bench.host.write(8192, b"\7" * 4096)
        await bench.pass_time(10 * MINUTE_S)
        assert await come_back(bench) == ("compare", "overflow")


async def test_what_cannot_be_removed_is_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with bench.running() as task:
        base = await go_away(bench)
        assert task.opened is not None
        source = task.opened.volume.source
        whole = source.remove

        async def busy(point_id: str) -> None:
            raise LvmError("logical volume in use")

        source.remove = busy  # type: ignore[method-assign]
        watch = watch_of(bench)
        watch.used[base], watch.free = 60, 99
        for _ in range(3):
            await looked(bench, watch)
        said = [r for r in caplog.records if "cannot be given up" in r.message]
        assert len(said) == 1
        source.remove = whole  # type: ignore[method-assign]
        await looked(bench, watch)
        assert bench.host.snapshots == {}
