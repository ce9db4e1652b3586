"""Every path over a real socket: documents, problems, streams; who may ask for what."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from typing import Any

import pytest
import yarl

from blocksnapd.control import routes
from blocksnapd.control.access import Access
from blocksnapd.errors import BusyError, RefusedError, StoreFullError
from tests.control.serving import run_command, serving
from tests.control.test_drill_messages import evidence
from tests.fakes.operations import plan

DISK = "%2Fsrv%2Fdisk%20image.raw"


async def test_status_and_volumes() -> None:
    async with serving() as served:
        status, body = await served.get("/v1/status")
        assert (status, body["host"], len(body["volumes"])) == (200, "db01", 2)
        assert (await served.get("/v1/volumes"))[1]["volumes"] == body["volumes"]


@pytest.mark.parametrize(
    ("name", "volume"),
    [("vg0%2Fhome", "vg0/home"), ("vg0/home", "vg0/home"), (DISK, "/srv/disk image.raw")],
)
async def test_a_volume_s_name_in_a_path(name: str, volume: str) -> None:
    async with serving() as served:
        async with served.http.get(_raw(f"/v1/volumes/{name}")) as reply:
            assert (reply.status, (await reply.json())["volume"]) == (200, volume)
        async with served.http.get(_raw(f"/v1/points/latest:{name}")) as reply:
            assert (reply.status, (await reply.json())["volume"]) == (200, volume)


def _raw(path: str) -> Any:
    return yarl.URL(f"http://x{path}", encoded=True)


async def test_points() -> None:
    async with serving() as served:
        assert len((await served.get("/v1/points"))[1]["points"]) == 4
        found = (await served.get("/v1/points?volume=vg0/home"))[1]["points"]
        assert [p["seq"] for p in found] == [1, 2, 3]
        at = "/v1/points/vg0%2Fhome%402026-11-22T14:00"
        status, body = await served.get(at)
        assert (status, body["seq"]) == (200, 2)
        assert "read as UTC" in body["note"]


def forgotten(served: Any, number: int) -> Any:
    """Let a point of the fake be forgotten; return its id."""
    gone = {"since": "2026-11-22T14:00:00.000Z", "until": "2026-12-06T14:00:00.000Z", "reason": ""}
    found = served.operations.known[number - 1]
    served.operations.known[number - 1] = {**found, "forgotten": gone}
    return found["id"]


async def test_forgotten_points_are_shown_when_asked_for() -> None:
    async with serving() as served:
        gone = forgotten(served, 2)
        assert len((await served.get("/v1/points"))[1]["points"]) == 3
        points = (await served.get("/v1/points?all=1&volume=vg0/home"))[1]["points"]
        assert [("forgotten" in p) for p in points] == [False, True, False]
        status, found = await served.get(f"/v1/points/{gone}")
        assert (status, found["id"]) == (200, gone)
        assert "can be brought back until 2026-12-06" in found["note"]
        assert (await served.get("/v1/points?all=x"))[0] == 400


async def test_pause_resume_and_a_restore_in_place() -> None:
    async with serving() as served:
        body = {"seconds": 7200.0, "reason": "a large import"}
        status, found = await served.post("/v1/volumes/vg0%2Fhome/pause", body)
        assert (status, found["paused"]["reason"]) == (200, "a large import")
        assert found["paused"]["until"] == "2026-11-22T16:05:00.000Z"
        status, found = await served.post("/v1/volumes/vg0/home/resume", {})
        assert (status, found["paused"]) == (200, None)
        served.operations.half_restored.add("vg0/home")
        assert (await served.post("/v1/volumes/vg0%2Fhome/resume", {}))[0] == 409
        assert (await served.post("/v1/volumes/vg0%2Fhome/resume", {"force": True}))[0] == 200
        status, found = await served.post("/v1/volumes/vg0%2Fhome/in-place", {"point": "p7"})
        assert (status, found["id"]) == (200, "z1")
        assert served.operations.in_place_heard == [{"point": "p7"}]
        assert (await served.post("/v1/volumes/vg0%2Fhome/in-place", {}))[0] == 400
        assert (await served.post("/v1/volumes/nothing/pause", {}))[0] == 404
        status, found = await served.post("/v1/volumes/vg0%2Fhome/end-views", {})
        assert (status, len(found["done"])) == (200, 1)


async def test_hold_release_undelete() -> None:
    async with serving() as served:
        until = "2026-12-01T00:00:00.000Z"
        body = {"until": until, "reason": "audit"}
        status, found = await served.post("/v1/points/vg0%2Fhome%40latest/hold", body)
        assert (status, found["seq"]) == (200, 3)
        assert (found["held"]["until"], found["held"]["reason"]) == (until, "audit")
        status, found = await served.post(f"/v1/points/{found['id']}/release", {})
        assert (status, "held" in found) == (200, False)
        gone = forgotten(served, 2)
        status, found = await served.post(f"/v1/points/{gone}/undelete", {})
        assert (status, found["held"]["reason"]) == (200, "brought back")
        status, found = await served.post(f"/v1/points/{gone}/undelete", {})
        assert (status, found["exit_code"]) == (409, 12)
        status, found = await served.post(f"/v1/points/{gone}/hold", {"until": "soon"})
        assert (status, found["code"]) == (400, "E-USAGE")
        assert (await served.get(f"/v1/points/{gone}/hold"))[0] == 405


async def test_drills() -> None:
    async with serving() as served:
        status, found = await served.post("/v1/drills", evidence())
        assert (status, found["id"]) == (201, "d-0123abcd")
        assert (await served.get("/v1/drills"))[1]["drills"] == [evidence()]
        since = "/v1/drills?volume=vg0/home&since=2026-11-23T01:10:00.000Z"
        assert len((await served.get(since))[1]["drills"]) == 1
        assert (await served.get("/v1/drills?since=2026-11-24T00:00:00Z"))[1]["drills"] == []
        assert (await served.get("/v1/drills?volume=vg0/mail"))[1]["drills"] == []
        assert (await served.get("/v1/drills?since=yesterday"))[0] == 400
        assert (await served.post("/v1/drills", evidence(volume="vg0/none")))[0] == 404
        status, found = await served.post("/v1/drills", {"id": "x"})
        assert (status, found["code"]) == (400, "E-USAGE")


async def test_plans() -> None:
    async with serving() as served:
        served.operations.plans["pl-00000001"] = plan()
        status, found = await served.get("/v1/plans/pl-00000001")
        assert (status, found) == (200, plan())
        status, found = await served.post("/v1/plans/pl-00000001/apply", {})
        assert (status, found["applied"]) == (200, True)
        assert (await served.post("/v1/plans/pl-2/apply", {}))[0] == 404


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("/v1/plans/pl-1", 404, "E-NOT-FOUND"),
        ("/v1/plans/pl-1/apply", 405, "E-USAGE"),
        ("/v1/nothing", 404, "E-NOT-FOUND"),
        ("/", 404, "E-NOT-FOUND"),
        ("/v1/volumes/vg0%2Fx", 404, "E-NOT-FOUND"),
        ("/v1/points/p0000", 404, "E-NOT-FOUND"),
        ("/v1/points/p", 400, "E-USAGE"),
        ("/v1/runs/r1", 404, "E-NOT-FOUND"),
        ("/v1/runs/r1?wait=1s", 404, "E-NOT-FOUND"),
        ("/v1/runs/r1/follow", 404, "E-NOT-FOUND"),
        ("/v1/runs/r1?wait=soon", 400, "E-USAGE"),
        ("/v1/events?since=x", 400, "E-USAGE"),
        ("/v1/runs/r1/cancel", 405, "E-USAGE"),
    ],
)
async def test_problems(url: str, status: int, code: str) -> None:
    async with serving() as served, served.http.get(f"http://x{url}") as reply:
        body = await reply.json(content_type="application/problem+json")
        assert (reply.status, body["code"], body["status"]) == (status, code, status)
        assert body["message"]
        assert reply.headers["Blocksnap-Api"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "code", "exit_code"),
    [
        (RefusedError("no", hint="do"), 409, "E-REFUSED", 12),
        (BusyError("later"), 503, "E-BUSY", 75),
        (StoreFullError("full", effect="lost"), 500, "E-REPO-FULL", 1),
        (KeyError("oops"), 500, "E-INTERNAL", 1),
    ],
)
async def test_errors_of_the_daemon(
    error: Exception, status: int, code: str, exit_code: int
) -> None:
    async with serving() as served:
        served.operations.failure = error
        found, body = await served.get("/v1/status")
        assert (found, body["code"], body["exit_code"]) == (status, code, exit_code)


async def test_a_run_is_started_joined_waited_for() -> None:
    async with serving() as served:
        request = {"kind": "cycle", "volume": "vg0/home", "tags": ["manual"]}
        status, started = await served.post("/v1/runs", request)
        assert (status, started["joined"]) == (201, False)
        status, joined = await served.post("/v1/runs", request)
        assert (status, joined["joined"], joined["id"]) == (200, True, started["id"])
        asked, who = served.operations.asked[0]
        assert asked == request
        assert (who["pid"], who["uid"]) == (os.getpid(), os.geteuid())
        waiting = asyncio.create_task(served.get(f"/v1/runs/{started['id']}?wait=1m"))
        await served.operations.finish(started["id"], "success")
        assert (await waiting)[1]["result"] == "success"
        runs = (await served.get("/v1/runs?volume=vg0%2Fhome"))[1]["runs"]
        assert [run["id"] for run in runs] == [started["id"]]


async def test_waiting_has_an_end() -> None:
    async with serving() as served:
        _, started = await served.post("/v1/runs", {"kind": "cycle", "volume": "vg0/home"})
        status, run = await served.get(f"/v1/runs/{started['id']}?wait=10ms")
        assert (status, run["state"]) == (200, "running")


async def test_a_run_is_cancelled() -> None:
    async with serving() as served:
        _, started = await served.post("/v1/runs", {"kind": "cycle", "volume": "vg0/home"})
        status, run = await served.post(f"/v1/runs/{started['id']}/cancel", {})
        assert (status, run["result"]) == (200, "cancelled")


async def test_a_body_too_large() -> None:
    async with serving() as served:
        status, body = await served.post("/v1/runs", {"kind": "x" * 70_000})
        assert (status, body["code"]) == (413, "E-USAGE")
        assert not served.operations.asked


async def test_following_a_run() -> None:
    async with serving() as served:
        _, started = await served.post("/v1/runs", {"kind": "cycle", "volume": "vg0/home"})
        served.operations.script = [
            {"done_bytes": 5, "expected_bytes": 10},
            {"state": "done", "result": "success"},
        ]
        async with served.http.get(f"http://x/v1/runs/{started['id']}/follow") as reply:
            assert reply.content_type == "application/x-ndjson"
            lines = [json.loads(line) async for line in reply.content if line.strip()]
        assert [line["done_bytes"] for line in lines] == [0, 5, 5]
        assert lines[-1]["result"] == "success"
        assert served.operations.streams_open == 0


async def test_events_follow_and_go_on() -> None:
    async with serving() as served:
        await served.operations.say("one")
        await served.operations.say("two")
        async with served.http.get("http://x/v1/events?since=1&follow=1") as reply:
            assert json.loads(await reply.content.readline())["message"] == "two"
            await served.operations.say("three")
            assert json.loads(await reply.content.readline())["message"] == "three"
        async with served.http.get("http://x/v1/events?since=-1") as reply:
            assert [json.loads(line)["seq"] async for line in reply.content] == [3]


async def test_health() -> None:
    async with serving() as served:
        assert (await served.get("/v1/health/live"))[0] == 200
        assert (await served.get("/v1/health/ready")) == (200, {"schema": 1, "ready": True})
        served.operations.is_ready = False
        assert (await served.get("/v1/health/ready"))[0] == 503


async def test_no_more_streams_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "STREAMS_MAX", 1)
    async with serving() as served:
        await served.operations.say("one")
        async with served.http.get("http://x/v1/events?follow=1") as reply:
            await reply.content.readline()
            status, body = await served.get("/v1/events")
            assert (status, body["code"]) == (503, "E-BUSY")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_can_do_it() -> None:
    async with serving() as served:
        await served.operations.say("hello")
        curl = ("curl", "-sS", "--unix-socket", served.path)
        code, out, _ = await run_command(*curl, "http://x/v1/volumes/vg0/home")
        assert (code, json.loads(out)["state"]) == (0, "protected")
        code, out, _ = await run_command(
            *curl, "-d", '{"kind": "cycle", "volume": "vg0/home"}', "http://x/v1/runs"
        )
        assert (code, json.loads(out)["joined"]) == (0, False)
        code, out, _ = await run_command(*curl, "-N", "-m", "1", "http://x/v1/events?follow=1")
        assert (code, json.loads(out)["message"]) == (28, "hello")  # 28: -m was over


ASK = """
import os, sys
from blocksnapctl.client import Client, ProblemError
from blocksnapd.errors import BlocksnapError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for ask in (lambda c: c.get("status")["host"],
            lambda c: c.post("runs", body={"kind": "cycle", "volume": "vg0/home"})["joined"]):
    try:
        print(ask(Client(sys.argv[1])))
    except ProblemError as error:
        print(error.problem["status"], error.problem["code"], error.problem["exit_code"])
    except BlocksnapError as error:
        print("no connection", error.exit_code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize(
    ("access", "is_open", "wanted"),
    [
        (Access(0), False, ["no connection 77", "no connection 77"]),
        (Access(0), True, ["403 E-NOT-ALLOWED 77", "403 E-NOT-ALLOWED 77"]),
        (Access(0, read_gid=65534), False, ["db01", "403 E-NOT-ALLOWED 77"]),
        (Access(0, admin_gid=65534), False, ["db01", "False"]),
        (Access(65534), True, ["db01", "False"]),
    ],
)
async def test_somebody_else(access: Access, is_open: bool, wanted: list[str]) -> None:
    """The user nobody, with and without a group, and where the socket's mode would let him in."""
    async with serving(access) as served:
        if is_open:
            os.chmod(served.path, 0o666)
        code, out, err = await run_command(sys.executable, "-c", ASK, served.path)
        assert (code, err) == (0, "")
        assert out.splitlines() == wanted
        assert len(served.operations.asked) == wanted.count("False")
