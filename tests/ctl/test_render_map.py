"""The picture of a map, cell by cell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from blocksnapctl import render_map

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
REGION = 1 << 20


def cycle(minute: int, changed: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "since": None, "time": f"2026-11-22T14:{minute:02}:00.000Z", "points": 1,
        "changed_bytes": changed, "full": False, "unknown": 0, **more,
    }  # fmt: skip


def change_map(cycles: list[dict[str, Any]], matrix: list[list[int]], **more: Any) -> Any:
    return {
        "schema": 1, "volume": "vg0/home", "size": 3 * REGION, "block_size": 4096,
        "region_size": REGION, "regions": 3, "cycles": cycles, "matrix": matrix, "left_out": 0,
        **more,
    }  # fmt: skip


def test_the_picture() -> None:
    cycles = [cycle(0, full=True), cycle(5, REGION), cycle(10, unknown=1), cycle(15, 4096)]
    matrix = [[0, 0, 0], [REGION, 0, REGION // 5], [0, 0, 0], [0, 4096, 0]]
    picture = render_map.heat(change_map(cycles, matrix, left_out=7), NOW, colour=False)
    assert picture.splitlines() == [
        "vg0/home  3.0 MiB  4 points, 14:00:00Z to 14:15:00Z: 1.0 MiB",
        "",
        "       0 B │┆█?",
        "   1.0 MiB │┆ ?░",
        "   2.0 MiB │┆▓?",
        "           └────",
        "            14:15:00Z",
        "",
        "a row: 1.0 MiB   a column: 1 point   changed: █ 50 %  ▓ 10 %  ▒ 1 %  ░ 0.1 %  · some",
        "┆ everything was shipped afresh: what changed is not known",
        "? a point that cannot be read: what changed is not known",
        "7 older points not shown (see --since)",
    ]


def test_a_wide_one_has_both_ends_under_it() -> None:
    wide = change_map([cycle(minute) for minute in range(40)], [[0, 0, 0]] * 40)
    axis = render_map.heat(wide, NOW, colour=False).splitlines()[6]
    assert axis == " " * 12 + "14:00:00Z" + " " * 22 + "14:39:00Z"


@pytest.mark.parametrize(
    ("share", "sign"),
    [(0, " "), (1e-9, "·"), (0.001, "░"), (0.0099, "░"), (0.01, "▒"), (0.1, "▓"), (0.5, "█"),
     (7.0, "█")],
)  # fmt: skip
def test_the_steps_are_fixed(share: float, sign: str) -> None:
    assert render_map.mark(share)[0] == sign


def test_colours_only_where_they_are_wanted() -> None:
    found = change_map([cycle(0, REGION)], [[REGION, 0, 0]])
    assert "\x1b[31;1m█\x1b[0m" in render_map.heat(found, NOW, colour=True)
    assert "\x1b" not in render_map.heat(found, NOW, colour=False)


def test_a_hostile_name_steers_no_terminal() -> None:
    found = change_map([cycle(0)], [[0, 0, 0]], volume="vg/\x1b[2J\nx")
    assert "\x1b" not in render_map.heat(found, NOW, colour=False)


def test_lines_for_scripts() -> None:
    found = change_map([cycle(0), cycle(5)], [[0, 4096, 0], [0, 0, 8192]], size=3 * REGION - 5)
    assert render_map.map_plain(found).splitlines() == [
        f"2026-11-22T14:00:00.000Z\t{REGION}\t{2 * REGION}\t4096",
        f"2026-11-22T14:05:00.000Z\t{2 * REGION}\t{3 * REGION - 5}\t8192",
    ]
