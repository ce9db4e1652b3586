"""``blocksnapctl map``, against a server in memory."""

from __future__ import annotations

from tests.control.serving import serving
from tests.ctl.calling import calling


async def test_a_picture_a_document_and_lines() -> None:
    async with serving() as served:
        drawn = await calling("--socket", served.path, "map", "vg0/home", COLUMNS="60")
        assert drawn.code == 0, drawn
        assert "       0 B │█" in drawn.out
        found = await calling("--socket", served.path, "--json", "map", "vg0/home", "--since", "7d")
        (document,) = found.lines
        assert document["matrix"] == [[4096, 0]]
        plain = await calling("--socket", served.path, "--plain", "map", "vg0/home")
        assert plain.out == "2026-11-22T14:05:00.000Z\t0\t4096\t4096\n"


async def test_with_a_key_our_own_worker_reads_it() -> None:
    async with serving() as served:
        one = await calling(
            "--socket", served.path, "--json", "map", "vg0/home", "--key", __file__
        )  # fmt: skip
        other = await calling("--repo", "/r", "--json", "map", "vg0/home", "--key", __file__)
        assert one.lines == other.lines
        assert one.lines[0]["regions"] == 2


async def test_a_volume_that_is_none_and_a_number_that_cannot_be() -> None:
    async with serving() as served:
        assert (await calling("--socket", served.path, "map", "vg0/none")).code == 11
        wrong = await calling("--socket", served.path, "map", "vg0/home", "--regions", "9999")
        assert wrong.code == 2
        assert "regions: '9999' is not a whole number from 1 to 1024" in wrong.err
