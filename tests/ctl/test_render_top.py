"""The page of ``top``: it fills a terminal and no more, and what is worst is always on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from blocksnapctl.render_top import FOOT, page
from blocksnapd.control.messages import format_time
from tests.ctl.test_render import MIB, run, status
from tests.fakes.operations import NOW, volume_status

if TYPE_CHECKING:
    from blocksnapd.control.messages import Event

FULL = {"code": "E-REPO-FULL", "message": "near is full", "effect": "3 runs failed.", "hint": "!"}
COW = {"size": 1000, "used": 610, "full_in": 1860.0}


def events(count: int) -> list[Event]:
    return [
        cast("Event", {"seq": n, "time": format_time(NOW), "severity": "info", "type": "point",
                       "volume": "vg0/home", "message": f"happened {n}"})
        for n in range(count)
    ]  # fmt: skip


def volumes(count: int) -> list[Any]:
    running = run(state="running", result=None, phase="transfer", done_bytes=1228 * MIB,
                  expected_bytes=1638 * MIB, rate=210.0 * MIB, eta=2.0)  # fmt: skip
    return [
        *(volume_status(f"vg0/v{n}") for n in range(count)),
        volume_status("vg0/home", active_run=running, exposure=300.0, rpo=600.0),
        volume_status("vg0/mail", state="late", exposure=1384.0, causes=[FULL], cow=COW),
    ]


def test_a_page_of_80_by_24() -> None:
    shown = page(status(*volumes(1)), events(40), columns=80, lines=24, colour=False)
    lines = shown.splitlines()
    assert len(lines) == 24
    assert lines[3:9] == [
        "vg0/mail  LATE         ██████████ 23m04s / 10m    COW 61%, full in 31m00s",
        "  └ near is full  3 runs failed.  !  [E-REPO-FULL]",
        "vg0/home  protected    █████░░░░░ 5m00s / 10m     COW 4%",
        "  ▸ transfer  1.2 GiB of 1.6 GiB  74%  210 MiB/s  ETA 2.0s",
        "vg0/v0    protected    █░░░░░░░░░ 1m12s / 10m     COW 4%",
        "",
    ]
    assert [line.rpartition(" ")[2] for line in lines[9:23]] == [str(n) for n in range(26, 40)]
    assert lines[-1] == FOOT


@pytest.mark.parametrize("columns", [20, 80, 200])
@pytest.mark.parametrize("lines", [6, 24, 60])
@pytest.mark.parametrize("count", [0, 100])
def test_it_fits_and_shows_the_worst(columns: int, lines: int, count: int) -> None:
    found = status(*volumes(count), host="a-host-with-a-very-long-name" * 4)
    shown = page(found, events(40), columns=columns, lines=lines, colour=False).splitlines()
    assert len(shown) == lines
    assert max(map(len, shown)) <= columns
    if lines > 6:
        assert any(line.startswith("vg0/mail") for line in shown)
        assert sum(line[:1].isdigit() for line in shown) >= 5  # events
        assert any("more: block" in line for line in shown) == (count == 100)


def test_colour_is_only_on_the_state() -> None:
    found = status(*volumes(0))
    plain = page(found, events(3), columns=80, lines=24, colour=False)
    coloured = page(found, events(3), columns=80, lines=24, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[31;1mLATE\x1b[0m" in coloured
    for code in ("\x1b[31;1m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain
