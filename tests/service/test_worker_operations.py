"""A repository read on its own: choosing points around damage, restoring, proving, the end."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.jobs import Job
from blocksnapd.service.plans import PlanBook
from blocksnapd.service.pruning import Pruning
from blocksnapd.service.runs import RunBook
from blocksnapd.service.worker_operations import IDLE_S, WorkerOperations
from blocksnapd.service.worker_points import WorkerPoints
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.repository import Repository
from tests.service.bench import ROOT
from tests.store.support import VOLUME, Lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blocksnapd.control.messages import Run


class Host:
    """Three points of a volume in a directory, and a worker that reads them."""

    def __init__(self, path: Path) -> None:
        self.root = path / "repository"
        made = init_repository(str(self.root), str(path / "keys"))
        self.keys = load_restore(made.restore_key)
        self.repository = Repository.open(str(self.root), restore_key=self.keys)
        self.lab = Lab(store=LocalStore(str(self.root)), keys=self.keys)
        self.lab.write(range(8), noise=True)
        self.lab.commit()
        for first in (8, 16):
            self.lab.commit(self.lab.write(range(first, first + 8), noise=True))
        self.points = [point for point, _ in self.lab.kept]
        book = RunBook(ManualClock())
        pruner = Pruner(self.lab.store, self.keys, ManualClock().now)
        self.held = WorkerPoints(self.repository, str(self.root), pruner)
        self.clock = ManualClock()
        self.worker = WorkerOperations(
            self.held, book, self.clock,
            pruning=Pruning(PlanBook(str(path / "plans")), book),
            verify_runs=functools.partial(VerifyRuns, self.lab.store, self.keys),
        )  # fmt: skip

    def damage(self, number: int) -> str:
        """Change a byte of a point's object; return the point's id."""
        path = self.root / self.points[number].name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
        return self.points[number].facts.point_id

    async def done(self, **request: Any) -> Run:
        started = await self.worker.start_run(request, ROOT)  # type: ignore[arg-type]
        return await self.worker.wait_run(started["id"], 30)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def name(host: Host) -> str:
    return host.points[0].facts.volume_name


async def test_what_there_is(host: Host) -> None:
    await host.held.load()
    points = await host.worker.points(None)
    assert [p["seq"] for p in points] == [1, 2, 3]
    assert points == await host.worker.points(name(host))
    assert await host.worker.points("another") == []
    found = await host.worker.point(f"latest:{name(host)}")
    assert (found["seq"], "note" in found) == (3, False)
    status = await host.worker.status()
    assert (status["volumes"], status["targets"][0]["up"]) == ([], True)
    assert await host.worker.ready()
    assert [e async for e in host.worker.events(0, follow=True)] == []
    for asked in (
        host.worker.volume(name(host)),
        host.worker.pause(name(host), {}, ROOT),
        host.worker.resume(name(host), {}, ROOT),
        host.worker.in_place(name(host), {"point": "p1"}, ROOT),
    ):
        with pytest.raises(NotFoundError, match="not the volumes"):
            await asked


async def test_one_that_nobody_waits_for_ends_a_while_after_its_last_run(
    host: Host, tmp_path: Path
) -> None:
    await host.held.load()
    asked = {"kind": "export", "unix": str(tmp_path / "nbd.sock")}
    started = await host.worker.start_run(asked, ROOT)  # type: ignore[arg-type]
    idle = asyncio.create_task(host.worker.idle())
    await asyncio.sleep(0)
    await host.clock.advance(10 * IDLE_S)
    assert not idle.done(), "an export is under way"
    await host.worker.cancel_run(started["id"], ROOT)
    await host.worker.wait_run(started["id"], 30)
    await asyncio.sleep(0)
    assert not idle.done(), "who asked for its end may want to know how it was"
    while not idle.done():
        await host.clock.advance(IDLE_S)


async def test_a_damaged_newest_point_is_left_out_aloud(host: Host) -> None:
    damaged = host.damage(2)
    await host.held.load()
    found = await host.worker.point(f"latest:{name(host)}")
    assert (found["seq"], found["note"]) == (2, f"Left out, because they are damaged: {damaged}.")
    with pytest.raises(ChecksumError, match=damaged) as caught:
        await host.worker.point(damaged)
    assert caught.value.exit_code == 14
    assert caught.value.hint
    assert "note" not in await host.worker.point(found["id"])  # an id means what it says
    with pytest.raises(NotFoundError):
        await host.worker.point("pffff")


async def test_damage_in_the_middle_is_told_to_who_could_have_meant_it(host: Host) -> None:
    damaged = host.damage(1)
    await host.held.load()
    times = {p["seq"]: p["time"] for p in await host.worker.points(None)}
    found = await host.worker.point(f"{name(host)}@{times[1]}")
    assert damaged in found["note"]
    assert sorted(times) == [1, 3]
    assert "note" not in await host.worker.point(f"latest:{name(host)}")


async def test_all_damaged_is_not_the_same_as_none(host: Host) -> None:
    for number in range(3):
        host.damage(number)
    await host.held.load()
    with pytest.raises(ChecksumError, match="damaged points cannot be read"):
        await host.worker.point(f"latest:{name(host)}")


async def test_something_else_among_the_points_harms_nothing(host: Host) -> None:
    (host.root / "v" / VOLUME / "p" / "strange").write_bytes(b"?")
    await host.held.load()
    assert (await host.worker.point(f"latest:{name(host)}"))["seq"] == 3
    with pytest.raises(NotFoundError):
        await host.worker.point("pffff")
    assert (await host.done(kind="verify"))["result"] == "failed"  # verify tells of it


async def test_restore(host: Host, tmp_path: Path) -> None:
    await host.held.load()
    run = await host.done(kind="restore", point=host.points[1].facts.point_id,
                          to=str(tmp_path / "out"))  # fmt: skip
    assert (run["result"], run["warnings"]) == ("success", [])
    assert (tmp_path / "out").read_bytes() == host.lab.kept[1][1]
    assert run["changed_bytes"] == 16 * 4096
    assert set(run["phases"]) == {"write", "verify"}
    assert await host.worker.run(run["id"]) == run
    assert [r["id"] for r in await host.worker.runs(None)] == [run["id"]]
    run = await host.done(kind="restore", point=host.points[1].facts.point_id,
                          to=str(tmp_path / "out"))  # fmt: skip
    assert run["error"] is not None
    assert (run["result"], run["error"]["exit_code"]) == ("failed", 12)
    run = await host.done(kind="restore", point=host.points[1].facts.point_id,
                          to=str(host.root / "inside"))  # fmt: skip
    assert run["error"] is not None
    assert "inside the repository" in run["error"]["message"]


async def test_verify(host: Host) -> None:
    await host.held.load()
    run = await host.done(kind="verify")
    assert run["result"] == "success"
    assert run["done_bytes"] == run["expected_bytes"] > 24 * 4096
    assert run["reason"] == "3 points whole, 24 blocks read"
    run = await host.done(kind="verify", volume=name(host), share=0.1)
    assert run["reason"] == "3 points whole, 8 blocks read"
    run = await host.done(kind="verify", share=0.0)
    assert run["reason"] == "3 points whole, 0 blocks read"
    run = await host.done(kind="verify", point=host.points[0].facts.point_id)
    assert run["reason"] == "1 point whole, 8 blocks read"
    with pytest.raises(NotFoundError, match="no point of another"):
        await host.done(kind="verify", volume="another")


async def test_verify_names_what_is_damaged(host: Host) -> None:
    damaged = host.damage(2)
    await host.held.load()
    run = await host.done(kind="verify", volume=name(host))
    assert run["error"] is not None
    assert (run["result"], run["error"]["exit_code"]) == ("failed", 14)
    assert any(damaged in warning for warning in run["warnings"])
    assert "restore from another point" in run["error"]["hint"]


@pytest.mark.parametrize(
    "request_", [{"kind": "cycle", "volume": "v"}, {"kind": "restore", "point": "p"}]
)
async def test_what_a_worker_does_not_do_leaves_no_run(host: Host, request_: Any) -> None:
    await host.held.load()
    request_ = {**request_, "point": host.points[0].facts.point_id}
    with pytest.raises(UsageError) as caught:
        await host.worker.start_run(request_, ROOT)
    assert caught.value.effect
    assert caught.value.hint
    assert await host.worker.runs(None) == []


async def test_the_end_stops_what_is_under_way(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose caller is gone cancels its restore, and waits for it."""
    begun, told = threading.Event(), []

    def slowly(_: object, cancelled: Callable[[], bool]) -> None:
        begun.set()
        while not cancelled():
            threading.Event().wait(0.001)
        told.append("stopped")
        raise CancelledRunError("it was cancelled")

    async def job(_: object) -> Job:
        return Job.in_thread("", slowly)

    monkeypatch.setitem(host.worker._jobs, "verify", job)
    await host.held.load()
    await host.worker.start_run({"kind": "verify"}, ROOT)
    assert await asyncio.to_thread(begun.wait, 20)
    await host.worker.close()
    assert told == ["stopped"]


async def test_prune_hold_and_bring_back(host: Host) -> None:
    await host.held.load()
    ids = [p.facts.point_id for p in host.points]
    policy = {"keep": ["all for 1m"], "min_points": 1, "max_delete_pct": 100}
    with pytest.raises(NotFoundError, match="no volume 'another'") as caught:
        await host.done(kind="prune", volume="another", policy=policy)
    assert f"{name(host)} ({VOLUME})" in caught.value.hint
    with pytest.raises(RefusedError, match="nothing says"):
        await host.done(kind="prune", volume=name(host))
    run = await host.done(kind="prune", volume=VOLUME, policy=policy)
    assert run["error"] is not None
    assert "no new points, or a clock jumped" in run["error"]["message"]  # that of the test is 2027
    plan = await host.worker.plan(run["plan"])
    assert (plan["keep"], plan["forget"]) == (1, 2)
    assert (await host.worker.hold(ids[1], {"reason": "audit"}, ROOT))["held"]["reason"] == "audit"
    with pytest.raises(RefusedError, match=f"{ids[1]} is held: audit"):
        await host.worker.apply_plan(run["plan"], ROOT)
    run = await host.done(kind="prune", volume=name(host), policy=policy, dry_run=True)
    done = await host.worker.apply_plan(run["plan"], ROOT)
    assert (done["applied"], done["forget"]) == (True, 1)
    assert [p["id"] for p in await host.worker.points(None)] == ids[1:]
    every = await host.worker.points(name(host), with_forgotten=True)
    assert [("forgotten" in p) for p in every] == [True, False, False]
    found = await host.worker.point(ids[0])
    assert "is forgotten; it can be brought back until" in found["note"]
    with pytest.raises(NotFoundError, match="no point as old"):
        await host.worker.point(f"{name(host)}@{every[0]['time']}")
    again = WorkerPoints(host.repository, str(host.root), host.held._pruner)
    await again.load()
    assert [p["id"] for p in await again.points(None)] == ids[1:]
    back = await host.worker.undelete(ids[0], ROOT)
    assert (back["held"]["reason"], "forgotten" in back) == ("brought back", False)
    assert "held" not in await host.worker.release(ids[0], ROOT)
    assert len(await host.worker.points(None)) == 3


async def test_an_unreadable_manifest_hides_no_point(host: Host) -> None:
    await host.held.load()
    await host.worker.hold(host.points[0].facts.point_id, {}, ROOT)
    (path,) = (host.root / "m" / VOLUME).iterdir()
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    await host.held.load()
    assert [("held" in p) for p in await host.worker.points(None)] == [False] * 3
