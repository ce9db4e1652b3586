"""``top`` on a terminal: it takes the screen, q gives it back as it was; elsewhere it says no."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from blocksnapctl.render_top import FOOT
from tests.control.serving import serving
from tests.ctl.calling import calling
from tests.flow.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path


def watched(path: str, cwd: Path, **more: str) -> tuple[int, str]:
    """Look at two pages, then press q."""
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.getcwd(), **more}
    with Terminal("top", "--socket", path, env=env, cwd=str(cwd)) as terminal:
        terminal.answer(FOOT, "")  # any other key: a new page at once
        terminal.answer(FOOT, "q")
        return terminal.end(), terminal.said


async def test_q_ends_it_and_the_terminal_is_as_before(tmp_path: Path) -> None:
    async with serving() as served:
        code, said = await asyncio.to_thread(watched, served.path, tmp_path)
        assert code == 0
        plain = await asyncio.to_thread(watched, served.path, tmp_path, NO_COLOR="1")
    assert said.startswith("\x1b[?1049h")
    first, second = said.split("\x1b[H")[1:3]
    for shown in (first, second):
        assert shown.count("\n") <= 24
        assert "vg0/home" in shown
    assert said.rstrip().endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert "\x1b[32mprotected" in said
    assert plain[0] == 0
    assert "\x1b[32m" not in plain[1]


async def test_a_daemon_that_is_away_is_told_of(tmp_path: Path) -> None:
    code, said = await asyncio.to_thread(watched, str(tmp_path / "none"), tmp_path)
    assert code == 0
    assert "no daemon answers" in said


async def test_without_a_terminal_it_names_what_works_there() -> None:
    found = await calling("top")
    assert found.code == 2
    assert "status --watch" in found.err
