"""The verb view: made with a key, ended without; what is to be typed then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocksnapctl.viewing import advice
from tests.control.serving import serving
from tests.ctl.calling import calling

if TYPE_CHECKING:
    from pathlib import Path


async def test_made_by_a_worker_that_knows_the_daemon(tmp_path: Path) -> None:
    key = tmp_path / "restore.key"
    key.write_text('{"kind": "restore"}')
    async with serving() as served:
        found = await calling(
            "view", "vg0/home@latest", "--key", str(key), "--socket", served.path, "--json"
        )
    assert found.code == 0, found.err
    assert found.lines[-1]["kind"] == "view"
    assert "p0003000000000000 of vg0/home, 2026-11-22T14:04:00.000Z" in found.err


async def test_without_a_key_nothing_is_asked() -> None:
    async with serving() as served:
        found = await calling("view", "vg0/home@latest", "--socket", served.path)
    assert found.code == 77
    assert "--key FILE" in found.err


async def test_ended_by_the_daemon() -> None:
    async with serving() as served:
        found = await calling("view", "--end", "vg0/home", "--socket", served.path)
        assert (found.code, found.out) == (0, "Ended the view /dev/mapper/blocksnap-view-x-p1.\n")
        found = await calling("view", "--end", "vg0/home", "--socket", served.path, "--json")
        assert found.lines[0]["schema"] == 1
        found = await calling("view", "--end", "vg0/home@latest", "--socket", served.path)
        assert found.code == 2
        assert (await calling("view", "--end", "vg0/none", "--socket", served.path)).code == 11


@pytest.mark.parametrize("is_writable", [True, False])
def test_what_to_type(is_writable: bool) -> None:
    lines = "\n".join(advice("/dev/mapper/x", "vg0/home", is_writable=is_writable))
    assert "blocksnapctl view --end vg0/home" in lines
    assert ("mount -o ro,norecovery /dev/mapper/x" in lines) is not is_writable
