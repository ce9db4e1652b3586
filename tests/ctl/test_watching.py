"""``status --watch`` on a terminal and off one, with a daemon and while it is away."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from blocksnapctl.watching import in_place
from tests.control.serving import serving
from tests.ctl.calling import calling
from tests.flow.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_terminal_shows_one_page_in_place_of_the_other(tmp_path: Path) -> None:
    def watch(path: str) -> tuple[int, str]:
        words = ("status", "--watch", "--timeout", "5s", "--socket", path)
        env = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.getcwd()}
        with Terminal(*words, env=env, cwd=str(tmp_path)) as terminal:
            return terminal.end(), terminal.said

    async with serving() as served:
        code, said = await asyncio.to_thread(watch, served.path)
    assert code == 0
    first, *pages = said.split("\x1b[H")
    assert "\x1b[2J" in first
    assert len(pages) >= 2
    assert all("blocksnap " in page and "\x1b[J" in page for page in pages)
    assert pages[-1].rstrip().endswith("\x1b[?7h")


async def test_elsewhere_it_is_page_after_page_and_a_daemon_that_is_away_is_waited_for() -> None:
    async with serving() as served:
        path = served.path
        found = await calling("status", "--watch", "--json", "--timeout", "0.1s", "--socket", path)
        assert found.code == 0
        assert found.out.count('"volumes"') == 2
        assert "\x1b" not in found.out
    found = await calling("status", "--watch", "--timeout", "0.1s", "--socket", path)
    assert found.code == 0
    assert found.out.strip()


def test_a_page_is_cut_to_the_terminal() -> None:
    page = "".join(f"line {n}\n" for n in range(1000))
    assert sys.stdout is not None
    assert in_place(page).count("\n") < 1000
    assert in_place("one\n") == "\x1b[Hone\x1b[K\n\x1b[J"
