"""Each verb from end to end: the client's own ``main`` against a real server on a real socket."""

from __future__ import annotations

import asyncio

from tests.control.serving import serving
from tests.ctl.calling import calling


async def test_status_three_ways() -> None:
    async with serving() as served:
        text = await calling("status", "--socket", served.path)
        assert text.code == 0
        assert text.err == ""
        assert "db01" in text.out
        assert "protected" in text.out
        document = await calling("status", "--json", BLOCKSNAP_SOCKET=served.path)
        assert document.lines[0]["volumes"][0]["volume"] == "vg0/home"
        plain = await calling("--plain", "--socket", served.path, "status", "vg0/home")
        assert plain.out.split("\t")[:4] == ["vg0/home", "protected", "72", "600"]


async def test_status_of_an_unknown_volume() -> None:
    async with serving() as served:
        found = await calling("status", "vg0/x", "--socket", served.path)
        assert (found.code, found.out) == (11, "")
        assert "no volume 'vg0/x' is configured [E-NOT-FOUND]" in found.err
        assert "Configured are: vg0/home, /srv/disk image.raw." in found.err


async def test_points() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("points", "vg0/home", *args, "--plain")
        assert [line.split("\t")[1] for line in found.out.splitlines()] == ["vg0/home"] * 3
        found = await calling("points", *args, "--json")
        assert len(found.lines[0]["points"]) == 4
        assert "p0002" in (await calling("points", *args)).out
        served.operations.known.clear()
        found = await calling("points", *args)
        assert (found.code, found.out, found.err) == (0, "", "There is no point yet.\n")


async def test_show_a_point_or_a_run() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("show", "p0002", *args)
        assert "2026-11-22T14:00:00.000Z" in found.out
        assert "1073741824 (1.0 GiB)" in found.out
        found = await calling("show", "vg0/home@2026-11-22T14:00", *args)
        assert "2026-11-22T14:00 read as 2026-11-22 14:00:00Z" in found.err
        again = await calling("show", "vg0/home", "--before", "2026-11-22T14:00", *args, "--json")
        assert again.lines[0]["id"].startswith("p0001")
        started = await calling("run", "vg0/home", *args, "--json")
        run_id = started.lines[0]["id"]
        assert f"id              {run_id}" in (await calling("show", run_id, *args)).out
        assert (await calling("show", "r404", *args)).code == 11
        assert (await calling("show", "p", *args)).code == 2


async def test_run_without_waiting() -> None:
    async with serving() as served:
        found = await calling(
            "trigger", "vg0/home", "--tag", "a", "--full", "--socket", served.path
        )
        assert (found.code, found.out) == (0, "run r00000001  vg0/home  started\n")
        assert "blocksnapctl show r00000001" in found.err
        request, _ = served.operations.asked[0]
        assert request == {"kind": "cycle", "volume": "vg0/home", "tags": ["a"], "full": True}
        found = await calling("run", "vg0/home", "--tag", "b", "--socket", served.path)
        assert found.out == "run r00000001  vg0/home  joined\n"
        assert "do not apply" in found.err
        assert (await calling("run", "vg0/x", "--socket", served.path)).code == 11
        assert (await calling("run", "vg0/home", "-q", "--socket", served.path)).err == ""


async def test_of_several_the_worst_counts() -> None:
    async with serving() as served:
        served.operations.script = [{"state": "done", "result": "warning", "duration": 1.0}]
        found = await calling("run", "vg0/home", "/srv/disk image.raw", "--wait", "--socket",
                              served.path)  # fmt: skip
        assert found.code == 13
        assert found.out.count("warning in") == 2


async def test_runs_and_cancel() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        assert "There was no run yet." in (await calling("runs", *args)).err
        await calling("run", "vg0/home", *args)
        found = await calling("cancel", "r00000001", *args)
        assert (found.code, found.out) == (0, "run r00000001  vg0/home  asked to stop\n")
        assert "cancelled" in (await calling("runs", *args)).out
        found = await calling("runs", "vg0/home", "--plain", *args)
        assert found.out.startswith("r00000001\tcycle\tvg0/home\tdone\tcancelled\t")
        assert (await calling("runs", "--json", *args)).lines[0]["runs"][0]["id"] == "r00000001"
        assert (await calling("cancel", "r404", *args)).code == 11


async def test_events() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        for number in range(60):
            await served.operations.say(f"number {number}", severity="warning")
        found = await calling("events", *args)
        assert len(found.out.splitlines()) == 50
        assert found.out.splitlines()[-1].endswith("warning vg0/home point - number 59")
        found = await calling("events", "--since", "58", "--json", *args)
        assert [event["seq"] for event in found.lines] == [59, 60]
        found = await calling("events", "--since", "59", "--plain", *args)
        assert found.out.split("\t")[0] == "60"


async def test_following_events_until_the_daemon_ends() -> None:
    async with serving() as served:
        await served.operations.say("one")
        following = asyncio.create_task(calling("events", "-f", "--socket", served.path))
        while not served.operations.streams_open:
            await served.get("/v1/health/live")
        await served.server.stop()
        found = await following
        assert found.code == 10
        assert "blocksnapctl events --follow --since 1" in found.err


async def test_watching_events_for_a_while() -> None:
    async with serving() as served:
        await served.operations.say("one")
        found = await calling("events", "-f", "--timeout", "50ms", "--socket", served.path)
        assert found.code == 0
