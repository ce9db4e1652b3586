"""Prunes as runs: planned, refused, applied; who is told of what."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.config import Retention
from blocksnapd.errors import BusyError, NotFoundError, RefusedError, UsageError
from blocksnapd.keep_rules import parse_rule
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.metrics import Metrics
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.catalogue import Marks
from blocksnapd.service.plans import PlanBook
from blocksnapd.service.pruning import (
    Place,
    Pruning,
    policy_of,
    policy_of_settings,
)
from blocksnapd.service.runs import RunBook
from tests.service.bench import ROOT
from tests.store.support import START, VOLUME, Lab, point_id

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import Run
    from blocksnapd.maintain.prune import Ledger

DAY = 86_400
POLICY = Policy((parse_rule("all for 5m"),), min_points=1, max_delete_pct=100)
WHERE = {"volume": "db/data", "target": "near"}


class Bench:
    """Ten points a minute apart, and who prunes them."""

    def __init__(self, path: Path) -> None:
        self.lab = Lab()
        for number in range(10):
            self.lab.commit(self.lab.write([number, 40]) if number else None)
        self.clock = ManualClock(now=(START + timedelta(minutes=10, seconds=30)).timestamp())
        self.pruner = Pruner(self.lab.store, self.lab.keys, self.clock.now)
        self.book = RunBook(self.clock)
        self.registry = CollectorRegistry()
        self.said: list[tuple[str, str, dict[str, object]]] = []
        self.plans = PlanBook(str(path / "plans"))
        self.pruning = Pruning(self.plans, self.book, say=self._say, metrics=Metrics(self.registry))
        self.ledgers: list[Ledger] = []
        self.place = Place("db/data", VOLUME, "near", self.pruner, POLICY, self.ledgers.append)

    def _say(self, kind: str, message: str, *, severity: str, volume: str, data: Any) -> None:
        assert volume == "db/data"
        self.said.append((kind, severity, data))

    async def done(self, place: Place | None = None, **request: Any) -> Run:
        request = {"kind": "prune", "volume": "db/data", **request}
        started = self.pruning.start(place or self.place, request, ROOT)  # type: ignore[arg-type]
        return (await self.book.wait(started["id"], 30)).message()

    async def place_of(self, volume: str, target: str = "") -> Place:
        assert volume == "db/data"
        return self.place

    def now_us(self) -> int:
        return self.pruner.now_us()

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"blocksnap_{name}", WHERE)

    def there(self) -> list[int]:
        return [c.seq for c in self.pruner.look(VOLUME).candidates(self.now_us())]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_prune_from_asking_to_its_end(bench: Bench) -> None:
    run = await bench.done()
    assert (run["kind"], run["result"], run["target"]) == ("prune", "success", "near")
    assert run["reason"] == "10 points: keep 5, forget 5 (50 %)"
    assert run["who"] == ROOT
    assert bench.there() == [6, 7, 8, 9, 10]
    assert [len(ledger.manifest.forgotten) for ledger in bench.ledgers] == [5]
    plan = await bench.pruning.plan(run["plan"], bench.now_us())
    assert (plan["applied"], plan["forget"], plan["frees_bytes"]) == (True, 5, None)
    assert bench.said == [("pruned", "info", {"plan": run["plan"]})]
    assert bench.metric("pruned_points_total") == 5
    assert bench.metric("prune_blocked") == 0
    assert bench.metric("prune_last_success_timestamp_seconds") == bench.clock.now()
    again = await bench.done()
    assert (again["result"], again["reason"]) == ("success", "5 points: keep 5, forget 0 (0 %)")
    assert len(bench.said) == 1


async def test_a_dry_run_changes_nothing_and_can_be_applied(bench: Bench) -> None:
    run = await bench.done(dry_run=True)
    assert (run["result"], run["done_bytes"], run["expected_bytes"]) == ("success", 10, 10)
    assert bench.there() == list(range(1, 11))
    assert bench.said == []
    assert bench.metric("prune_last_success_timestamp_seconds") is None
    plan = await bench.pruning.plan(run["plan"], bench.now_us())
    assert (plan["applied"], plan["frees_bytes"] > 0) == (False, True)
    done = await bench.pruning.apply(run["plan"], bench.now_us(), bench.place_of)
    assert done["applied"]
    assert bench.there() == [6, 7, 8, 9, 10]
    assert len(bench.ledgers) == 1
    assert bench.metric("pruned_points_total") == 5
    with pytest.raises(RefusedError, match="forgotten or gone"):
        await bench.pruning.apply(run["plan"], bench.now_us(), bench.place_of)
    with pytest.raises(NotFoundError):
        await bench.pruning.apply("pl-00000000", bench.now_us(), bench.place_of)


async def test_a_guard_refuses_and_a_plan_is_left(bench: Bench) -> None:
    careful = replace(bench.place, policy=replace(POLICY, max_delete_pct=30))
    run = await bench.done(careful)
    assert run["error"] is not None
    assert (run["result"], run["error"]["exit_code"]) == ("failed", 12)
    assert "max_delete_pct = 30" in run["error"]["message"]
    assert run["error"]["hint"] == (
        f"To go on: blocksnapctl prune --apply {run['plan']} (expires in 15m00s)"
    )
    assert bench.there() == list(range(1, 11))
    assert bench.metric("prune_blocked") == 1
    plan = await bench.pruning.plan(run["plan"], bench.now_us())
    assert [g["name"] for g in plan["refused"]] == ["max_delete_pct"]
    assert plan["frees_bytes"] is not None
    await bench.pruning.apply(run["plan"], bench.now_us(), bench.place_of)
    assert bench.there() == [6, 7, 8, 9, 10]
    assert bench.metric("prune_blocked") == 0


async def test_without_a_policy_nothing_begins(bench: Bench) -> None:
    with pytest.raises(RefusedError, match="nothing says which points of db/data to keep"):
        await bench.done(replace(bench.place, policy=None))
    run = await bench.done(
        replace(bench.place, policy=None), policy={"keep": ["all for 5m"], "max_delete_pct": 100}
    )
    assert run["result"] == "success"
    with pytest.raises(UsageError, match="is not a rule"):
        await bench.done(policy={"keep": ["all"]})


class Slow:
    """Reads layers when the test says so."""

    def __init__(self, pruner: Pruner) -> None:
        self._pruner, self.begun, self.go = pruner, threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pruner, name)

    def measured(self, plan: Any, progress: Any) -> Any:
        self.begun.set()
        assert self.go.wait(20)
        return self._pruner.measured(plan, progress)


async def test_one_at_a_time(bench: Bench) -> None:
    slow = Slow(bench.pruner)
    place = replace(bench.place, pruner=slow)
    dry: Any = {"kind": "prune", "volume": "db/data", "dry_run": True}
    first = bench.pruning.start(place, dry, ROOT)
    assert await asyncio.to_thread(slow.begun.wait, 20)
    assert bench.pruning.start(place, dry, ROOT) == {**first, "joined": True}
    with pytest.raises(BusyError, match="is being pruned"):
        bench.pruning.start(place, {"kind": "prune", "volume": "db/data"}, ROOT)
    slow.go.set()
    assert (await bench.book.wait(first["id"], 30)).result == "success"


async def test_it_can_be_cancelled_and_ends_with_the_daemon(bench: Bench) -> None:
    slow = Slow(bench.pruner)
    dry: Any = {"kind": "prune", "volume": "db/data", "dry_run": True}
    started = bench.pruning.start(replace(bench.place, pruner=slow), dry, ROOT)
    assert await asyncio.to_thread(slow.begun.wait, 20)
    closing = asyncio.create_task(bench.pruning.close())
    await asyncio.sleep(0)
    slow.go.set()
    await closing
    run = bench.book.get(started["id"]).message()
    assert (run["result"], run["plan"]) == ("cancelled", "")


async def test_a_layer_that_cannot_be_read_costs_the_numbers_only(bench: Bench) -> None:
    bench.pruner.hold(VOLUME, point_id(9))  # from now on the manifest lists them
    name = bench.lab.kept[3][0].name
    data = bench.lab.store.objects[name]
    bench.lab.store.objects[name] = data[:-1] + bytes([data[-1] ^ 1])
    run = await bench.done(dry_run=True)
    assert run["result"] == "warning"
    assert "what it frees is not known" in run["warnings"][0]
    plan = await bench.pruning.plan(run["plan"], bench.now_us())
    assert (plan["forget"], plan["frees_bytes"]) == (5, None)


async def test_a_failure_is_told(bench: Bench) -> None:
    bench.lab.store.objects.clear()
    run = await bench.done()
    assert run["error"] is not None
    assert (run["result"], run["error"]["code"]) == ("failed", "E-REPO-MISSING")
    assert [(kind, severity) for kind, severity, _ in bench.said] == [("prune-failed", "error")]


async def test_hold_release_undelete(bench: Bench) -> None:
    await bench.pruning.hold(bench.place, point_id(2), {"reason": "audit"})
    until = {"until": "2026-01-05T00:00:00.000Z"}
    await bench.pruning.hold(bench.place, point_id(3), until)  # type: ignore[arg-type]
    await bench.done()
    assert bench.there() == [2, 3, 6, 7, 8, 9, 10]
    await bench.pruning.undelete(bench.place, point_id(1))
    await bench.pruning.release(bench.place, point_id(2))
    assert bench.there() == [1, 2, 3, 6, 7, 8, 9, 10]
    deeds = [kind for kind, _, _ in bench.said]
    assert deeds == ["held", "held", "pruned", "undeleted", "released"]
    assert bench.said[0] == ("held", "info", {"point": point_id(2)})
    await bench.pruning.look(bench.place)
    marks = Marks(bench.ledgers[-1], bench.now_us())
    points = [{"id": point_id(n), "seq": n} for n in range(1, 12)]
    marked = marks.marked(points)  # type: ignore[arg-type]
    assert [p["id"] for p in marked if "forgotten" in p] == [point_id(4), point_id(5)]
    held = {p["seq"]: (p["held"]["until"], p["held"]["reason"]) for p in marked if "held" in p}
    assert held == {1: (None, "brought back"), 3: ("2026-01-05T00:00:00.000Z", "")}
    assert marked[-1] == {"id": point_id(11), "seq": 11}  # newer than the manifest
    assert marks.marked([{"id": "p0", "seq": 5}]) == []  # type: ignore[list-item]


def test_policies() -> None:
    settings = Retention.model_validate(
        {"keep": ["all for 2h"], "keep_tags": ["x*"], "min_points": 2, "max_delete_pct": 50,
         "undelete": "3d"}
    )  # fmt: skip
    wanted = Policy((parse_rule("all for 2h"),), ("x*",), 2, 50, 3 * DAY * 10**6)
    assert policy_of_settings(settings) == wanted
    message = {"keep": ["all for 2h"], "keep_tags": ["x*"], "min_points": 2,
               "max_delete_pct": 50, "undelete": 3.0 * DAY}  # fmt: skip
    assert policy_of(message) == wanted  # type: ignore[arg-type]
    assert policy_of({"keep": ["all for 2h"]}) == Policy((parse_rule("all for 2h"),))
    assert policy_of_settings(Retention.model_validate({"keep": ["all for 2h"]})) == policy_of(
        {"keep": ["all for 2h"]}
    )
