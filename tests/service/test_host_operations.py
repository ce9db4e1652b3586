"""What the daemon answers its operator, over tasks in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.config import Target, load
from blocksnapd.control.events import EventLog
from blocksnapd.errors import (
    KeyMissingError,
    NotFoundError,
    RefusedError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.metrics import Metrics
from blocksnapd.service.drill_book import DrillBook
from blocksnapd.service.drill_task import DrillTask
from blocksnapd.service.host_operations import HostOperations
from blocksnapd.service.pausing import Pausing
from blocksnapd.service.plans import PlanBook
from blocksnapd.service.prune_answers import Pruners
from blocksnapd.service.pruning import Pruning
from blocksnapd.service.targets import TargetWatch
from blocksnapd.store.init import init_repository
from tests.service.bench import EVERY_S, ROOT, SETTINGS, Bench

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import Point, RunRequest, TargetStatus

NEAR = Target(url="/srv/x", source_key="/k")
HOME, MAIL = "vg0/home", "vg0/mail"


class Host:
    """Two volumes; ``vg0/mail`` cannot be opened until ``mail.closed`` is None."""

    def __init__(self, path: Path, events: EventLog, home: Bench) -> None:
        self.home = home
        self.mail = Bench(path, settings=SETTINGS.model_copy(update={"name": MAIL}))
        self.mail.closed = StoreMissingError("the vault is gone", effect="none", hint="mount it")
        targets = TargetWatch({}, Metrics(CollectorRegistry()), home.clock)
        tasks = {HOME: home.task, MAIL: self.mail.task}
        drill_book = DrillBook(str(path / "drills"))
        text = 'schema = 1\n[target.near]\nurl = "/n"\nsource_key = "/k"\n[volume."/srv/x"]\n'
        (path / "drills.toml").write_text(text)
        config = load(str(path / "drills.toml"))
        self.drills = DrillTask(
            config, drill_book, home.book, lambda _: True,
            metrics=Metrics(CollectorRegistry()), say=events.say, clock=home.clock,
        )  # fmt: skip
        self.operations = HostOperations(
            tasks, targets, home.book, events, home.clock,
            pruning=Pruning(PlanBook(str(path / "plans")), home.book),
            pruners=Pruners({"near": NEAR}, home.clock), drills=self.drills, drill_book=drill_book,
        )  # fmt: skip
        self.events = events


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    home = Bench(tmp_path)
    return Host(tmp_path, await EventLog.open(str(tmp_path), home.clock), home)


async def test_status(host: Host) -> None:
    ask = host.operations
    assert (await ask.volume(HOME))["state"] == "unprotected"
    async with host.home.running():
        await host.home.idle()
        await host.home.clock.advance(100)
        status = await ask.status()
        assert (status["uptime"], status["targets"]) == (100.0, [])
        home, mail = status["volumes"]
        assert (home["state"], home["exposure"], home["points"]) == ("protected", 100.0, 1)
        assert home["last_run"] is not None
        assert home["last_run"]["result"] == "success"
        assert (mail["state"], mail["exposure"], mail["last_point"]) == ("unprotected", None, None)
        assert await ask.volume(HOME) == home
        await host.home.clock.advance(2 * EVERY_S)
        await host.home.idle()
    assert not await ask.ready()
    ask.is_ready = True
    assert await ask.ready()


async def test_points_that_are_not_known_are_not_none(host: Host) -> None:
    """A repository that is away has points all the same: nobody is told that there are none."""
    ask = host.operations
    await host.mail.task.open()
    with pytest.raises(StoreError, match="the points of vg0/mail are not known: the vault"):
        await ask.points(MAIL)
    with pytest.raises(StoreError, match="it is not open yet"):
        await ask.points(None)
    with pytest.raises(StoreError) as caught:
        await ask.point("latest:vg0/mail")
    assert "--repo URL" in caught.value.hint
    async with host.home.running():
        await host.home.idle()
    assert [p["volume"] for p in await ask.points(None)] == [HOME]
    found = await ask.point(f"latest:{HOME}")
    assert [found] == await ask.points(HOME)
    with pytest.raises(StoreError):
        await ask.points(MAIL)


async def test_a_run_from_asking_to_its_end(host: Host) -> None:
    ask = host.operations
    async with host.home.running():
        await host.home.idle()
        started = await ask.start_run({"kind": "cycle", "volume": HOME, "tags": ["a"]}, ROOT)
        assert started["joined"] is False
        run = await ask.wait_run(started["id"], 20)
        assert (run["result"], run["tags"], run["who"]) == ("success", ["a"], ROOT)
        assert await ask.run(started["id"]) == run
        assert [r["state"] async for r in ask.follow_run(started["id"])] == ["done"]
        assert (await ask.runs(HOME))[0] == run
        assert await ask.runs(MAIL) == []
        assert (await ask.cancel_run(started["id"], ROOT))["result"] == "success"


async def test_what_the_daemon_does_not_do(host: Host) -> None:
    ask = host.operations
    for kind in ("restore", "verify"):
        with pytest.raises(KeyMissingError, match=f"can't {kind}") as caught:
            await ask.start_run({"kind": kind, "point": "p1", "to": "/x"}, ROOT)
        assert "--key FILE" in caught.value.hint
    with pytest.raises(NotFoundError, match="no volume 'vg0/x'") as missing:
        await ask.start_run({"kind": "cycle", "volume": "vg0/x"}, ROOT)
    assert missing.value.hint == "Configured are: vg0/home, vg0/mail"
    with pytest.raises(UsageError, match="no volume was named"):
        await ask.start_run({"kind": "cycle"}, ROOT)
    assert await ask.runs(None) == []


async def test_pruning_takes_a_retention_and_a_key(host: Host) -> None:
    ask = host.operations
    request: RunRequest = {"kind": "prune", "volume": MAIL}
    with pytest.raises(StoreError, match="the points of vg0/mail are not known"):
        await ask.start_run(request, ROOT)
    with pytest.raises(RefusedError, match="keeps what its configuration says") as caught:
        await ask.start_run({**request, "policy": {"keep": ["all for 2h"]}}, ROOT)
    assert "--repo URL" in caught.value.hint
    async with host.home.running():
        await host.home.idle()
        newest = await ask.point(f"latest:{HOME}")
        with pytest.raises(KeyMissingError, match="maintenance_key"):
            await ask.hold(newest["id"], {}, ROOT)
        with pytest.raises(KeyMissingError, match="maintenance_key"):
            await ask.start_run({**request, "volume": HOME}, ROOT)
    with pytest.raises(NotFoundError, match="no plan"):
        await ask.plan("pl-00000000")


async def test_listings_follow_what_maintenance_changed(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = init_repository(str(tmp_path / "repository"), str(tmp_path / "keys"))
    async with host.home.running():
        await host.home.idle()
        await host.operations.refresh("near")  # vg0/mail is not open, vg0/home has no key
        assert "vg0/home: listings may be out of date: [target.near]" in caplog.text
        near = NEAR.model_copy(
            update={"url": str(tmp_path / "repository"), "maintenance_key": made.maintenance_key}
        )
        host.operations._pruners = Pruners({"near": near}, host.home.clock)
        caplog.clear()
        await host.operations.refresh("far")
        await host.operations.refresh("near")
        assert caplog.text == ""
        opened = host.home.task.opened
        assert opened is not None
        assert opened.catalogue._marks is not None
        assert len(await host.operations.points(HOME)) == 1  # newer than any manifest


async def test_events(host: Host) -> None:
    host.events.say("point", "made", severity="info", volume=HOME, data={})
    await host.events.flush()
    assert [e["message"] async for e in host.operations.events(0, follow=False)] == ["made"]


async def test_pausing_and_what_status_says_of_it(host: Host) -> None:
    ask = host.operations
    async with host.home.running():
        await host.home.idle()
        status = await ask.pause(HOME, {"seconds": 7200.0, "reason": "night"}, ROOT)
        paused = status["paused"]
        assert paused is not None
        assert (paused["reason"], status["next_run"], status["state"]) == (
            "night", None, "protected",
        )  # fmt: skip
        status = await ask.resume(HOME, {}, ROOT)
        assert status["paused"] is None
        assert status["next_run"] is not None
        lease = await ask.in_place(HOME, {"point": "p7"}, ROOT | {"pid": os.getpid()})
        with pytest.raises(RefusedError, match="being restored"):
            await ask.start_run({"kind": "cycle", "volume": HOME}, ROOT)
        run = {"kind": "cycle", "volume": HOME, "lease": lease["id"]}
        started = await ask.start_run(run, ROOT)  # type: ignore[arg-type]
        assert (await ask.wait_run(started["id"], 20))["result"] == "success"
        await ask.in_place(HOME, {"id": lease["id"], "safety": "p9", "writing": True}, ROOT)
        host.home.task.pausing = Pausing(HOME, "", host.home.clock)
        half = host.home.task.pausing.begin("p7", {"pid": 0})["id"]
        host.home.task.pausing.note(half, safety="p9", writing=True)
        status = await ask.volume(HOME)  # nobody is at it any more
        assert (status["state"], status["causes"][0]["code"]) == ("failing", "E-HALF-RESTORED")
    with pytest.raises(NotFoundError):
        await ask.pause("vg0/nothing", {}, ROOT)


async def test_a_point_is_taken_from_a_target_that_answers(tmp_path: Path) -> None:
    home = Bench(tmp_path, settings=SETTINGS.model_copy(update={"further": {"far": None}}))
    host = Host(tmp_path, await EventLog.open(str(tmp_path), home.clock), home)
    told: list[TargetStatus] = []

    class Watch:
        def messages(self) -> list[TargetStatus]:
            return told

    host.operations._targets = Watch()  # type: ignore[assignment]
    async with home.running():
        await home.idle()
    assert home.task.opened is not None
    (near,) = home.task.opened.catalogue.points()
    far: Point = {**near, "id": "pfar", "target": "far", "time": "2030-01-01T00:00:00.000Z"}
    home.task.opened.catalogue._points["pfar"] = far
    assert (await host.operations.point(f"{HOME}@latest"))["id"] == "pfar"
    told.append({"name": "far", "url": "", "up": False, "free_bytes": None, "message": ""})
    found = await host.operations.point(f"{HOME}@latest")
    assert found["id"] == near["id"]
    assert "far does not answer; it has pfar" in found["note"]
    # Whoever names the point, or the target, means it.
    for selector in ("pfar", f"{HOME}@latest#far"):
        assert (await host.operations.point(selector))["id"] == "pfar"
    told.append({**told[0], "name": "near"})
    assert (await host.operations.point(f"{HOME}@latest"))["id"] == "pfar"


async def test_a_volume_of_several_targets_is_asked_for_at_each(tmp_path: Path) -> None:
    lanes = SETTINGS.model_copy(update={"further": {"far": None}}).lanes
    home = Bench(tmp_path, settings=lanes[0])
    host = Host(tmp_path, await EventLog.open(str(tmp_path), home.clock), home)
    host.mail.task.settings = lanes[1]
    async with home.running():
        await home.idle()
        started = await host.operations.start_run({"kind": "cycle", "volume": HOME}, ROOT)
        assert len(started["others"]) == 1
        request: RunRequest = {"kind": "cycle", "volume": HOME, "target": "near"}
        assert "others" not in await host.operations.start_run(request, ROOT)
        await home.idle()
    states = {v["target"]: v["state"] for v in (await host.operations.status())["volumes"]}
    assert states == {"near": "protected", "far": "unprotected"}
    with pytest.raises(NotFoundError, match="has no target"):
        await host.operations.start_run({**request, "target": "x"}, ROOT)
