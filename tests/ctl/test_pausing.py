"""pause and resume: from the command line to the daemon and back; what status says then."""

from __future__ import annotations

from blocksnapctl import pausing
from tests.control.serving import serving
from tests.ctl.calling import calling

VOLUME = "vg0/home"


async def test_a_pause_for_a_while_with_a_reason() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("pause", VOLUME, "--for", "2h", "--reason", "a large import", *args)
        assert (found.code, found.out) == (0, "vg0/home  paused until 2026-11-22T16:05:00.000Z\n")
        page = (await calling("status", *args)).out
        assert "  └ paused since 14:05:00Z until 16:05:00Z by " in page
        assert ": a large import. Go on with: blocksnapctl resume vg0/home" in page
        row = next(line for line in page.splitlines() if line.startswith(VOLUME))
        assert "  paused  " in row
        found = await calling("resume", VOLUME, *args, "--json")
        assert (found.code, found.lines[0]["paused"]) == (0, None)
        assert "paused" not in (await calling("status", *args)).out
    assert pausing.pause.__doc__


async def test_one_without_an_end() -> None:
    async with serving() as served:
        found = await calling("pause", VOLUME, "--socket", served.path)
        assert found.out == "vg0/home  paused until it is resumed\n"
        found = await calling("resume", VOLUME, "--socket", served.path)
        assert found.out == "vg0/home  resumed\n"


async def test_what_is_half_restored_resumes_by_word_only() -> None:
    async with serving() as served:
        served.operations.half_restored.add(VOLUME)
        found = await calling("resume", VOLUME, "--socket", served.path)
        assert found.code == 12
        assert "was not finished" in found.err
        assert (await calling("resume", VOLUME, "--yes", "--socket", served.path)).code == 0
