"""Which point and repository a command line means, asked of a real server on a real socket."""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from typing import TYPE_CHECKING, cast

import pytest

from blocksnapctl.choosing import found_point, only_repository, repository_of, selector_of
from blocksnapctl.client import Client, ProblemError
from blocksnapctl.output import Output
from blocksnapd.errors import NotFoundError, UsageError
from tests.control.serving import serving
from tests.ctl.calling import calling
from tests.fakes.operations import point

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapd.control.messages import Point


def output() -> tuple[Output, io.StringIO]:
    said = io.StringIO()
    shown = argparse.Namespace(json=False, plain=False, quiet=False, verbose=False, no_color=True)
    return Output(io.StringIO(), said, shown, {}), said


async def test_a_point_and_how_it_was_understood():
    out, said = output()
    async with serving() as served:
        client = Client(served.path)
        point = await asyncio.to_thread(found_point, out, client, "vg0/home@2026-11-22T14:00")
        assert point["volume"] == "vg0/home"
        wanted = "2026-11-22T14:00 read as 2026-11-22 14:00:00Z; the point is of 14:00:00Z: that"
        assert wanted in said.getvalue()
        with pytest.raises(ProblemError):
            await asyncio.to_thread(found_point, out, client, "none")


@pytest.fixture
def central_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks of this machine go an hour ahead, in summer two; by a rule, so no file is needed."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("central_europe")
async def test_times_are_those_of_this_machine() -> None:
    out, said = output()
    async with serving() as served:

        def find(selector: str) -> str:
            return str(found_point(out, Client(served.path), selector)["id"])[:5]

        assert await asyncio.to_thread(find, "vg0/home@2026-11-22 15:00") == "p0002"
        assert "read as 2026-11-22 15:00:00 +01:00; the point is of 15:00:00 +01:00" in (
            said.getvalue()
        )
        assert await asyncio.to_thread(find, "vg0/home@2026-11-22 15:03:30") == "p0002"
        assert "the point is of 15:00:00 +01:00, 3m30s before." in said.getvalue()
        assert await asyncio.to_thread(find, "vg0/home@before 2026-11-22T14:00Z") == "p0001"
        assert await asyncio.to_thread(find, "vg0/home@before 2026-11-22T14:00:00.001Z") == "p0002"
        assert await asyncio.to_thread(find, "vg0/home@latest") == "p0003"


@pytest.mark.usefixtures("central_europe")
async def test_what_nobody_can_mean_is_refused_with_the_nearest_points() -> None:
    """A time without a point, one to come, one that came twice, one that never was."""
    out, _ = output()
    async with serving() as served:
        known = [point(n) for n in range(1, 5)]
        times = ("2026-10-25T00:00", "2026-10-25T00:40", "2026-10-25T01:40", "2026-10-25T04:00")
        served.operations.known = [
            cast("Point", {**p, "time": f"{t}:00.000Z"}) for p, t in zip(known, times, strict=True)
        ]
        both = ["p0002000000000000  2026-10-25 02:40:00 +02:00",
                "p0003000000000000  2026-10-25 02:40:00 +01:00"]  # fmt: skip
        cases = {
            "2026-10-25 02:30": (2, "came twice: 2026-10-25 02:30:00 +02:00 and", both),
            "2026-03-29 02:30": (2, "clocks went from +01:00 to +02:00", ["p0001000000000000"]),
            "2026-10-24": (11, "no point as old as 2026-10-24 00:00:00 +02:00 (2026-10-24)",
                           ["p0001000000000000  2026-10-25 02:00:00 +02:00", both[0]]),
            "before 2026-10-25T00:00Z": (11, "no point older than 2026-10-25 02:00:00 +02:00",
                                         ["p0001000000000000  2026-10-25 02:00:00 +02:00"]),
            "2099-01-01": (2, "2099-01-01 00:00:00 +01:00 is yet to come", ["p0004000000000000"]),
            "noon": (2, "'noon' is no time", []),
        }  # fmt: skip
        for text, (code, message, points) in cases.items():
            args = ("vg0/home", "--socket", served.path)
            time_ = ("--before", text[7:]) if text.startswith("before") else ("--at", text)
            found = await calling("show", *args, *time_)
            assert (found.code, found.out) == (code, ""), found
            assert message in found.err
            for line in points:
                assert line in found.err
        with pytest.raises(ProblemError, match="no point of a volume"):
            await asyncio.to_thread(found_point, out, Client(served.path), "vg0/x@14:05Z")


async def test_a_time_to_come_of_which_there_are_points_blames_the_clock_here() -> None:
    """On a rescue system the clock may be years late: that must not keep anybody from restoring."""
    out, _ = output()
    async with serving() as served:
        ahead = {**point(1), "time": "2098-01-01T00:00:00.000Z"}
        served.operations.known = [cast("Point", ahead)]
        client = Client(served.path)
        found = await asyncio.to_thread(found_point, out, client, "vg0/home@2098-01-01")
        assert found["id"].startswith("p0001")
        with pytest.raises(UsageError, match="is yet to come"):
            await asyncio.to_thread(found_point, out, client, "vg0/home@2098-01-02")


def test_a_time_makes_a_point_of_a_volume() -> None:
    def selected(item: str | None, **times: str) -> str | None:
        return selector_of(argparse.Namespace(verb="show", **times), item)

    assert selected("p1") == "p1"
    assert selected("/srv/a@b", at="14:05", before=None) == "/srv/a@b@14:05"
    assert selected("v/w", at=None, before="14:05") == "v/w@before 14:05"
    for item in (None, "latest:v/w"):
        with pytest.raises(UsageError, match="need a VOLUME"):
            selected(item, at="14:05")


async def test_a_target_by_name_or_the_only_one():
    async with serving() as served:
        client = Client(served.path)
        targets = (await asyncio.to_thread(client.get, "status"))["targets"]
        found = await asyncio.to_thread(repository_of, client, targets[0]["name"])
        assert found == targets[0]["url"]
        with pytest.raises(NotFoundError, match="no target 'none'"):
            await asyncio.to_thread(repository_of, client, "none")
        if len(targets) == 1:
            assert await asyncio.to_thread(only_repository, client) == targets[0]["url"]
        else:
            with pytest.raises(UsageError):
                await asyncio.to_thread(only_repository, client)
