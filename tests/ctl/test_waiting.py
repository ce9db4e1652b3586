"""wait: of a run, of a volume; and version."""

from __future__ import annotations

import asyncio

from blocksnapctl import waiting
from blocksnapd import __version__
from tests.control.serving import serving
from tests.ctl.calling import calling


async def test_until_it_is_done() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        run_id = (await calling("run", "vg0/home", "--json", *args)).lines[0]["id"]
        over = await calling("wait", run_id, "--timeout", "100ms", *args)
        assert over.code == 124
        assert f"run {run_id} was not done in time [E-WAIT]" in over.err
        waiter = asyncio.create_task(calling("wait", run_id, "--json", *args))
        await asyncio.sleep(0.1)
        assert not waiter.done()
        await served.operations.finish(run_id, "warning")
        found = await waiter
        assert (found.code, found.lines[-1]["state"]) == (13, "done")
        assert (await calling("wait", "r404", *args)).code == 11
    assert waiting.wait.__doc__


async def test_of_a_volume_without_a_run() -> None:
    async with serving() as served:
        found = await calling("wait", "vg0/home", "--socket", served.path)
        assert (found.code, found.err) == (0, "No run of vg0/home is under way.\n")


async def test_version() -> None:
    async with serving() as served:
        found = await calling("version", "--socket", served.path)
        assert found.out.startswith(f"blocksnapctl {__version__}\nblocksnapd ")
    alone = await calling("version", "--json", "--socket", "/nowhere")
    assert alone.lines == [{"schema": 1, "version": __version__, "daemon": None}]
