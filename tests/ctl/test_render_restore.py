"""The plan of a restore, and its bar, as people read them."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any, cast

import pytest

from blocksnapctl.render_restore import plan, progress
from blocksnapd.units import GIB, MIB

ZONE = timezone(timedelta(hours=1))
PLANNED: dict[str, Any] = {
    "target": "file", "to": "/mnt/home.img", "replaces": False, "size": 200 * GIB,
    "point": "p4fe0c3", "volume": "vg0/home", "time": "2026-11-22T13:03:00.000Z",
    "consistency": "crash", "suspect": False, "content_bytes": 120 * GIB, "kept_bytes": 0,
    "rate": 300.0 * MIB, "seconds": 409.6, "notes": [], "read_back": "2026-11-21T02:00:00.000Z",
    "read_back_packs": [40, 40], "damaged_bytes": 0,
}  # fmt: skip


def shown(**changes: Any) -> str:
    return plan(PLANNED | changes, ZONE)


def test_a_plan() -> None:
    assert (
        shown()
        == """\
plan       p4fe0c3 of vg0/home, 2026-11-22 14:03:00 +01:00, consistency: crash
to         /mnt/home.img, a new file
write      120 GiB, and 80.0 GiB of zeros that take no room
time       about 6m50s at 300 MiB/s, as the repository was read just now, and reading it back
read back  all of it, last 2026-11-21 03:00:00 +01:00
"""
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"replaces": True}, "/mnt/home.img, a file whose content is lost"),
        ({"target": "device", "to": "/dev/sdb"}, "to         /dev/sdb, a device\n"),
        (
            {"target": "volume", "to": "/dev/vg0/back", "volume_size": 200 * GIB},
            "to         NEW volume vg0/back, 200 GiB\nwrite      120 GiB, and 80.0 GiB of zeros\n",
        ),
        ({"kept_bytes": GIB}, "; 1.0 GiB are there from an interrupted restore, if they prove"),
        ({"rate": None, "seconds": None}, "time       unknown: there is too little"),
        (
            {"read_back": None, "read_back_packs": [3, 40]},
            "read back  3 of 40 packs ever were; prove it with: blocksnapctl verify p4fe0c3",
        ),
        ({"read_back": None, "read_back_packs": [0, 0]}, "read back  there is nothing to read"),
        (
            {"read_back": None, "read_back_packs": [0, 0], "damaged_bytes": None},
            "read back  not known\nmind       a part of its map cannot be read\n",
        ),
        ({"damaged_bytes": 8192}, "mind       8.0 KiB of it are known to be damaged; it is"),
        ({"suspect": True}, "mind       the volume held something else at that instant"),
        ({"notes": ["one\x1b[2J", "two"]}, "mind       one�[2J\nmind       two\n"),
    ],
)
def test_what_a_plan_may_say(changes: dict[str, Any], wanted: str) -> None:
    assert wanted in shown(**changes)


def test_a_bar_that_fills() -> None:
    run: Any = {"kind": "restore", "volume": "v", "phase": "write", "expected_bytes": 200}
    for done, filled in ((0, 0), (9, 0), (10, 1), (199, 19), (200, 20), (900, 20)):
        line = progress(cast("Any", run | {"done_bytes": done}))
        assert line.startswith(f"[{'#' * filled}{'.' * (20 - filled)}]  v  write")
    assert progress(run | {"kind": "cycle", "done_bytes": 10}).startswith("v  write")
    assert progress({**run, "expected_bytes": 0}) == "v  write"
