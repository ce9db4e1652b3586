"""``report VOLUME --html FILE``, against a server in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.control.serving import serving
from tests.ctl.calling import calling

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_page_is_written(tmp_path: Path) -> None:
    file = tmp_path / "home.html"
    async with serving() as served:
        await served.operations.say("hello")
        asked = ("--socket", served.path, "report", "vg0/home", "--html", str(file))
        done = await calling(*asked)
        assert done.code == 0, done
        assert "it needs nothing but a browser" in done.err
        text = file.read_text()
        assert text.count("<svg") >= 3
        assert "vg0/home: restore points" in text


async def test_with_a_repository_alone(tmp_path: Path) -> None:
    file = tmp_path / "home.html"
    done = await calling(
        "--repo", "/r", "--socket", str(tmp_path / "none"), "report", "vg0/home",
        "--html", str(file), "--key", __file__,
    )  # fmt: skip
    assert done.code == 0, done
    assert "Where and when it changed" in file.read_text()


async def test_what_it_takes(tmp_path: Path) -> None:
    async with serving() as served:
        none = await calling("--socket", served.path, "report", "--html", str(tmp_path / "x"))
        assert none.code == 2
        assert "--html writes the page of one volume" in none.err
        away = tmp_path / "away" / "x"
        lost = await calling("--socket", served.path, "report", "vg0/home", "--html", str(away))
        assert lost.code == 1
        assert "cannot be written" in lost.err
