"""The life of one volume in the daemon: its rhythm, who joins, what fails, how it ends."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.journal import Journal
from blocksnapd.errors import (
    BusyError,
    RefusedError,
    StoreMissingError,
    VolumeError,
)
from tests.service.bench import EVERY_S, ROOT, SETTINGS, WHERE, Bench, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def ask(bench: Bench, *tags: str) -> tuple[str, bool]:
    run, joined = bench.task.ask(tags=tags, full=False, who=ROOT)
    return run.run_id, joined


# --- rhythm --------------------------------------------------------------------------------------


async def test_the_first_at_once_then_one_an_interval(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
        assert bench.results == ["success"]
        await bench.pass_time(EVERY_S - 1)
        assert bench.results == ["success"]
        await bench.pass_time(1)
        assert bench.results == ["success"] * 2
    instants = [kept.point.facts.time.timestamp() for kept in bench.store.kept]
    assert instants[1] - instants[0] == EVERY_S


async def test_after_a_restart_the_rhythm_goes_on_from_the_newest_point(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
    await bench.clock.advance(100)
    bench.new_task()
    async with bench.running():
        await bench.idle()
        assert bench.results == ["success", "skipped"]
        await bench.pass_time(EVERY_S - 101)
        assert len(bench.store.kept) == 1
        await bench.pass_time(1)
        assert bench.results == ["success", "skipped", "success"]


@pytest.mark.parametrize("jump_s", [EVERY_S, 86400.0, -3600.0])
async def test_a_point_too_old_or_of_the_future_makes_a_cycle_due(
    bench: Bench, jump_s: float
) -> None:
    async with bench.running():
        await bench.idle()
    bench.clock.jump(jump_s)
    bench.new_task()
    async with bench.running():
        await bench.idle()
    assert bench.results == ["success", "success"]


async def test_failures_back_off_and_a_success_ends_them(bench: Bench) -> None:
    bench.store.room = 0
    async with bench.running():
        for waits in (10, 20, 40, 60, 60):
            failed = await bench.idle()
            assert failed is not None
            assert failed.result == "failed"
            tries = len(bench.results)
            await bench.pass_time(waits - 1)
            assert len(bench.results) == tries
            await bench.clock.advance(1)
        await bench.idle()
        assert bench.task.failures == 6
        assert bench.task.cause is not None
        assert bench.task.cause["code"] == "E-REPO-FULL"
        bench.store.room = 1 << 62
        await bench.pass_time(60)
        assert (bench.results[-1], bench.task.failures) == ("success", 0)
        assert bench.task.cause is None
        assert bench.task.next_due_in_s() == EVERY_S
    assert [kind for kind, *_ in bench.events] == ["run-failed"] * 6 + ["point"]
    assert bench.events[0][1] == "error"


# --- who asks ------------------------------------------------------------------------------------


async def test_asked_for_now(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
        run_id, joined = ask(bench, "release-7")
        run = await bench.book.wait(run_id, 20)
        assert (joined, run.result, run.who) == (False, "success", ROOT)
        assert bench.store.kept[-1].point.facts.tags == ("release-7",)
        await bench.pass_time(EVERY_S - 1)
        assert len(bench.store.kept) == 2  # the interval counts from the asked one
        await bench.pass_time(1)
        assert len(bench.store.kept) == 3


async def test_who_asks_while_it_is_under_way_joins(bench: Bench) -> None:
    bench.store.go.clear()
    async with bench.running():
        await bench.shipping()
        first, second = ask(bench), ask(bench)
        assert first == second
        assert first[1] is True
        bench.store.go.set()
        await bench.idle()
        assert bench.results == ["success"]


async def test_who_joins_the_look_at_start_gets_a_point(bench: Bench) -> None:
    """The run at start makes none when none is due; somebody asked, so it must."""
    async with bench.running():
        await bench.idle()
    bench.new_task()
    bench.door.clear()
    async with bench.running():
        await asyncio.sleep(0)
        run_id, joined = ask(bench)
        assert joined
        bench.door.set()
        run = await bench.book.wait(run_id, 20)
        assert (run.result, len(bench.store.kept)) == ("success", 2)


async def test_a_cancelled_run_leaves_nothing_and_is_no_failure(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
        base = set(bench.host.snapshots)
        bench.host.write(0, b"\2" * 4096)
        bench.store.go.clear()
        bench.store.arrived.clear()
        run_id, _ = ask(bench)
        await bench.shipping()
        bench.book.cancel(run_id, ROOT)
        bench.store.go.set()
        run = await bench.book.wait(run_id, 20)
        assert (run.result, run.warnings) == ("cancelled", ["cancelled by root"])
        assert (bench.task.failures, bench.task.cause) == (0, None)
        assert set(bench.host.snapshots) == base
        await bench.idle()
        await bench.pass_time(EVERY_S)
        assert bench.results == ["success", "cancelled", "success"]
        assert bench.store.kept[-1].point.facts.method == "tracked"


# --- the end -------------------------------------------------------------------------------------


async def test_a_stop_keeps_the_point_under_way_for_the_next_start(
    bench: Bench, tmp_path: Path
) -> None:
    async with bench.running() as task:
        await bench.idle()
        bench.host.write(0, b"\2" * 4096)
        instant = bytes(bench.host.content)
        bench.store.go.clear()
        bench.store.arrived.clear()
        ask(bench, "release-7")
        await bench.shipping()
        (point_id,) = set(bench.host.snapshots) - {bench.store.kept[0].point.facts.point_id}
        task.stop()
        with pytest.raises(BusyError, match="is stopping"):
            ask(bench)
    assert (bench.results, len(bench.store.kept)) == (["success", "cancelled"], 1)
    assert bench.task.failures == 0
    journal = Journal.open(str(tmp_path / "vg0-home"), volume_id="memory-volume", volume_name="m")
    assert journal.record.pending is not None
    assert journal.record.pending.point_id == point_id
    bench.host.write(0, b"\3" * 4096)
    bench.new_task()
    async with bench.running():
        await bench.idle()
    kept = bench.store.kept[-1]
    assert (len(bench.store.kept), kept.point.facts.point_id) == (2, point_id)
    assert (kept.image, kept.point.facts.tags) == (instant, ("release-7",))
    assert kept.point.facts.method == "tracked"


async def test_a_run_that_was_asked_for_too_late_does_not_wait_for_ever(bench: Bench) -> None:
    async with bench.running() as task:
        await bench.idle()
        run_id, _ = ask(bench)
        task.stop()
        run = await bench.book.wait(run_id, 20)
        assert run.result == "cancelled"
        assert run.error is not None
        assert run.error["code"] == "E-CANCELLED"
    assert len(bench.store.kept) == 1


async def test_a_stop_before_the_start_starts_nothing(bench: Bench) -> None:
    bench.task.stop()
    async with bench.running():
        pass
    assert (bench.results, bench.store.kept) == ([], [])


async def test_slots_limit_how_many_work_at_once(tmp_path: Path) -> None:
    one = Bench(tmp_path)
    two = Bench(tmp_path, settings=SETTINGS.model_copy(update={"name": "vg0/mail"}))
    one.slots = two.slots = asyncio.Semaphore(1)
    one.new_task()
    two.new_task()
    one.store.go.clear()
    async with one.running():
        await one.shipping()
        async with two.running():
            await asyncio.sleep(0)
            waiting = two.book.active("cycle", "vg0/mail")
            assert waiting is not None
            assert waiting.message()["state"] == "queued"
            assert two.task.is_at_work
            one.store.go.set()
            await one.idle()
            await two.idle()
            assert (one.results, two.results) == (["success"], ["success"])


# --- what goes wrong -----------------------------------------------------------------------------


async def test_a_mistake_of_ours_does_not_end_the_protection(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.trouble = KeyError("nobody thought of this")
    async with bench.running():
        run = await bench.idle()
        assert run is not None
        assert run.error is not None
        assert (run.result, run.error["code"]) == ("failed", "E-FAILED")
        assert "KeyError" in run.error["message"]
        assert "mistake in blocksnap" in run.error["hint"]
        assert caplog.records[-1].exc_info is not None
        bench.trouble = None
        await bench.pass_time(10)
        assert bench.results == ["failed", "success"]


async def test_a_state_directory_without_room_is_told_as_such(bench: Bench) -> None:
    bench.trouble = OSError(errno.ENOSPC, "No space left on device", "/var/lib/blocksnap/x")
    async with bench.running():
        run = await bench.idle()
    assert run is not None
    assert run.error is not None
    assert run.error["code"] == "E-HOST"
    assert "/var/lib/blocksnap/x No space left on device" in run.error["message"]
    assert "mistake" not in run.error["hint"]
    assert "room" in run.error["hint"]


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (StoreMissingError("gone", effect="none", hint="mount"), "E-REPO-MISSING"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "E-HOST"),
        (ValueError("a mistake"), "E-FAILED"),
    ],
)
async def test_what_cannot_be_opened_is_tried_again(
    bench: Bench, trouble: Exception, code: str
) -> None:
    bench.closed = trouble
    await bench.task.open()
    assert bench.task.opened is None
    assert bench.task.cause is not None
    assert bench.task.cause["code"] == code
    async with bench.running():
        await bench.idle()
        assert bench.task.failures == 1
        bench.closed = None
        await bench.pass_time(10)
        assert bench.results == ["failed", "success"]
        assert bench.task.cause is None


async def test_a_target_that_hangs_takes_no_slot_and_one_thread(tmp_path: Path) -> None:
    one = Bench(tmp_path)
    two = Bench(tmp_path, settings=SETTINGS.model_copy(update={"name": "vg0/mail"}))
    one.slots = two.slots = asyncio.Semaphore(1)
    one.new_task()
    two.new_task()
    one.door.clear()
    at_start = asyncio.create_task(one.task.open())
    async with one.running():
        await asyncio.sleep(0)
        async with two.running():
            await two.idle()
            assert two.results == ["success"]
        assert one.results == [None]
        one.door.set()
        await one.idle()
        await at_start
        assert (one.results, one.openings) == (["success"], 1)


@pytest.mark.parametrize(
    "trouble", [VolumeError("another volume of this name"), StoreMissingError("another disk")]
)
async def test_what_may_have_changed_is_opened_anew(bench: Bench, trouble: Exception) -> None:
    async with bench.running():
        await bench.idle()
        bench.trouble = trouble
        await bench.pass_time(EVERY_S)
        assert bench.task.opened is not None  # its points are still known
        bench.trouble = None
        await bench.pass_time(10)
        assert (bench.results, bench.openings) == (["success", "failed", "success"], 2)


async def test_a_failed_proof_stays_visible_until_a_clean_one(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
        bench.host.write(0, b"\7" * 4096)
        bench.host.lying_chunks[0] = b"\x55" * 4096
        await bench.pass_time(EVERY_S)
        assert bench.results[-1] == "warning"
        assert bench.task.suspect is not None
        assert bench.task.suspect["code"] == "E-CHECKSUM"
        assert ("proof-mismatch", "critical") in [e[:2] for e in bench.events]
        bench.host.lying_chunks.clear()
        await bench.pass_time(EVERY_S)
        assert bench.task.suspect is not None  # nothing was proven: nothing changed
        bench.host.write(0, b"\6" * 4096)
        await bench.pass_time(EVERY_S)
        assert bench.results[-1] == "success"
        assert bench.task.suspect is None


# --- what is counted -----------------------------------------------------------------------------


async def test_metrics_move_as_they_should(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
        bench.host.write(0, b"\3" * 4096)
        await bench.pass_time(EVERY_S)
        bench.store.room = 0
        bench.host.write(0, b"\4" * 4096)
        await bench.pass_time(EVERY_S)
        assert bench.metric("runs_total", kind="cycle", result="failed", **WHERE) == 1
        assert bench.metric("run_failures_total", code="E-REPO-FULL", **WHERE) == 1
        assert bench.metric("consecutive_failures", **WHERE) == 1
        bench.store.room = 1 << 62
        await bench.pass_time(10)
    assert bench.metric("runs_total", kind="cycle", result="success", **WHERE) == 3
    assert bench.metric("consecutive_failures", **WHERE) == 0
    assert bench.metric("points", **WHERE) == 3
    assert bench.metric("run_active", **WHERE) == 0
    assert bench.metric("changed_bytes_total", volume="vg0/home") == 8192 + 4096 + 4096
    assert bench.metric("transferred_bytes_total", **WHERE) == 8192 + 4096 + 4096
    assert bench.metric("full_scans_total", volume="vg0/home", reason="first") == 1
    assert bench.metric("proof_checked_blocks_total", volume="vg0/home") == 2
    assert bench.metric("proof_mismatched_blocks_total", volume="vg0/home") == 0
    assert bench.metric("freeze_duration_seconds_count", volume="vg0/home") == 4
    assert bench.metric("volume_size_bytes", volume="vg0/home") == 16 * 4096
    newest = bench.store.kept[-1].point.facts.time.timestamp()
    assert bench.metric("last_point_timestamp_seconds", **WHERE) == newest
    told = {"volume": "vg0/home", "driver": "memory", "volume_id": "memory-volume"}
    assert bench.metric("volume_info", **told) == 1


async def test_a_pause_shows_in_the_metrics_until_it_is_over(bench: Bench) -> None:
    since = "volume_paused_since_timestamp_seconds"
    async with bench.running():
        await bench.idle()
        assert bench.metric("volume_paused", volume="vg0/home") == 0
        assert bench.metric(since, volume="vg0/home") is None
        begun = bench.clock.now()
        bench.task.pausing.pause(600, "maintenance", {"pid": 1, "uid": 0, "login": "root"})
        await bench.pass_time(10)
        assert bench.metric("volume_paused", volume="vg0/home") == 1
        assert bench.metric(since, volume="vg0/home") == begun
        await bench.pass_time(600)
        assert bench.metric("volume_paused", volume="vg0/home") == 0
        assert bench.metric(since, volume="vg0/home") is None


async def test_a_lost_tracking_is_counted_and_costs_one_full_compare(bench: Bench) -> None:
    async with bench.running():
        await bench.idle()
        for snapshot in bench.host.snapshots.values():
            snapshot.state = "invalid"
        bench.host.write(0, b"\3" * 4096)
        await bench.pass_time(EVERY_S)
    facts = bench.store.kept[-1].point.facts
    assert (facts.method, facts.reason, facts.changed_bytes) == ("compare", "overflow", 4096)
    assert bench.metric("full_scans_total", volume="vg0/home", reason="overflow") == 1


async def test_a_volume_that_is_missing_says_so(bench: Bench) -> None:
    bench.trouble = VolumeError("vg0/home is missing", effect="none", hint="bring it back")
    async with bench.running():
        await bench.idle()
        assert bench.task.cause is not None
        assert bench.task.cause["hint"] == "bring it back"
    assert bench.results == ["failed"]


# --- paused --------------------------------------------------------------------------------------


async def test_a_paused_volume_makes_no_points_by_itself(bench: Bench) -> None:
    pausing = bench.task.pausing
    async with bench.running():
        await bench.idle()
        await asyncio.to_thread(pausing.pause, 3 * EVERY_S, "night", ROOT)
        await bench.pass_time(2 * EVERY_S)
        assert bench.results == ["success"]
        run_id, _ = ask(bench)  # somebody wants one
        assert (await bench.book.wait(run_id, 20)).result == "success"
        await bench.pass_time(EVERY_S - 1)
        assert bench.results == ["success"] * 2
        await bench.clock.advance(2)
        await until(lambda: len(bench.results) == 3)
        await bench.idle()


async def test_a_volume_that_was_paused_starts_so_and_goes_on_when_resumed(bench: Bench) -> None:
    await asyncio.to_thread(bench.task.pausing.pause, None, "", ROOT)
    async with bench.running():
        await bench.idle()
        assert bench.results == []
        await asyncio.to_thread(bench.task.pausing.resume, force=False)
        bench.task.wake()
        await until(lambda: bench.results == ["success"])


async def test_while_it_is_restored_only_its_lease_makes_a_point(bench: Bench) -> None:
    lease = (await asyncio.to_thread(bench.task.pausing.begin, "p7", ROOT | {"pid": os.getpid()}))[
        "id"
    ]
    async with bench.running():
        await bench.idle()
        with pytest.raises(RefusedError, match="being restored"):
            ask(bench)
        run, joined = bench.task.ask(tags=("before-restore",), full=False, who=ROOT, lease=lease)
        assert not joined
        assert (await bench.book.wait(run.run_id, 20)).result == "success"
