"""Which repository a command line means, asked of a real server on a real socket."""

from __future__ import annotations

import argparse
import asyncio
import io

import pytest

from blocksnapctl.choosing import found_point, only_repository, repository_of
from blocksnapctl.client import Client, ProblemError
from blocksnapctl.output import Output
from blocksnapd.errors import NotFoundError, UsageError
from tests.control.serving import serving


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
        assert "read as UTC" in said.getvalue()
        with pytest.raises(ProblemError):
            await asyncio.to_thread(found_point, out, client, "none")


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
