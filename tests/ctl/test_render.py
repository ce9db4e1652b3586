"""Replies as text: what a person sees, to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from blocksnapctl import render
from blocksnapd.control.messages import format_time, parse_time
from tests.fakes.operations import NOW, point, volume_status

if TYPE_CHECKING:
    from blocksnapd.control.messages import Event, Point, Run, Status, VolumeStatus

TODAY = parse_time(format_time(NOW))
MIB = 1 << 20
GOLDEN = Path(__file__).parent / "golden"


def run(**changes: Any) -> Run:
    found = {
        "schema": 1, "id": "r8f2c", "kind": "cycle", "volume": "vg0/home", "target": "near",
        "state": "done", "result": "success", "phase": "", "phases": {}, "done_bytes": 0,
        "expected_bytes": 0, "started": format_time(NOW - 60), "ended": format_time(NOW),
        "duration": 6.1, "changed_bytes": 412 * MIB, "shipped_bytes": 400 * MIB,
        "stored_bytes": 210 * MIB, "point": "p51d9a0", "warnings": [], "error": None, "to": "",
    }  # fmt: skip
    return cast("Run", found | changes)


def status(*volumes: VolumeStatus, **changes: Any) -> Status:
    found = {
        "schema": 1, "version": "1.0.0", "host": "db01", "now": format_time(NOW),
        "uptime": 12 * 86400 + 4 * 3600.0, "volumes": list(volumes),
        "targets": [{"name": "near", "url": "/srv/b", "up": True, "free_bytes": 2 << 40}],
    }  # fmt: skip
    return cast("Status", found | changes)


def test_status_page() -> None:
    running = run(state="running", result=None, phase="transfer", done_bytes=1228 * MIB,
                  expected_bytes=1638 * MIB, rate=210.0 * MIB, eta=2.0)  # fmt: skip
    full = {"code": "E-REPO-FULL", "message": "near refused the write", "effect": "3 runs failed.",
            "hint": "Give it room."}  # fmt: skip
    page = render.status(
        status(
            volume_status("vg0/pgdata", last_run=run(), points=612),
            volume_status("vg0/home", exposure=891.0, rpo=1800.0, active_run=running, cow=None),
            volume_status("vg0/mail", state="late", exposure=1384.0, retry=4, causes=[full],
                          last_run=run(result="failed"), next_run=format_time(NOW + 41)),
            volume_status("/srv/x", state="unprotected", exposure=None, last_point=None,
                          next_run=None, cow=None, points=0),
        ),
        colour=False,
    )  # fmt: skip
    assert page == (GOLDEN / "status.txt").read_text()


def test_status_without_volumes() -> None:
    page = render.status(status(targets=[{"name": "n", "url": "/s", "up": False}]), colour=True)
    assert page == "blocksnap 1.0.0 on db01 · up 12d 4h · 0 volumes\ntarget n  /s  DOWN\n"


def test_the_state_is_coloured_and_nothing_else() -> None:
    """Even where the volume's name holds the word."""
    volume = volume_status("vg0/late", state="late")
    dull = render.status(status(volume), colour=False)
    bright = render.status(status(volume), colour=True)
    assert bright.replace("\x1b[31;1mLATE\x1b[0m", "LATE") == dull
    assert "vg0/late  \x1b[31;1mLATE\x1b[0m" in bright


def test_status_plain() -> None:
    text = render.status_plain(status(volume_status("a\tb", exposure=None, last_point=None)))
    assert text == f"a�b\tprotected\t\t600\t\t{format_time(NOW + 108)}\t3\t{1 << 30}\tnear\n"


def test_points() -> None:
    first: Point = {"id": "p1", "volume": "vg0/x", "time": "2026-11-20T01:02:03.000Z"}
    text = render.points([first, point(2, minutes=5)], TODAY)
    assert text == (GOLDEN / "points.txt").read_text()
    assert render.points([], TODAY) == ""
    assert render.points_plain([first]) == ("p1\tvg0/x\t2026-11-20T01:02:03.000Z" + "\t" * 9 + "\n")


def test_a_volume_of_two_targets_is_told_once_for_each() -> None:
    far = volume_status("vg0/x", target="far", state="late")
    page = render.status(status(volume_status("vg0/x"), far, volume_status("y")), colour=False)
    assert "vg0/x → near  protected" in page
    assert "vg0/x → far   LATE" in page
    assert "\ny " in page
    listed = render.points([point(1), {**point(2), "target": "far"}], TODAY).splitlines()
    assert listed[0].split()[:4] == ["POINT", "VOLUME", "TARGET", "TIME"]
    assert [line.split()[2] for line in listed[1:]] == ["near", "far"]


def test_runs() -> None:
    found = [run(), run(id="r2", state="running", result=None, duration=None, point="")]
    assert (
        render.runs(found, TODAY, colour=False)
        == """\
RUN    KIND   VOLUME    STARTED    RESULT   TOOK  CHANGED  STORED   POINT
r8f2c  cycle  vg0/home  14:04:00Z  success  6.1s  412 MiB  210 MiB  p51d9a0
r2     cycle  vg0/home  14:04:00Z  running  -     412 MiB  210 MiB  -
"""
    )
    assert "\x1b[32msuccess\x1b[0m  6.1s" in render.runs(found, TODAY, colour=True)
    assert render.runs([], TODAY, colour=False) == ""


def test_a_run_that_ended() -> None:
    found = run(phases={"snapshot": 0.2, "transfer": 8.0}, suspend=0.042, warnings=["careful"],
                reason="first copy")  # fmt: skip
    assert (
        render.run_ended(found)
        == """\
run r8f2c  vg0/home → near  success in 6.1s
  snapshot 200 ms · transfer 8.0s · writers held 42 ms
  first copy
  warning: careful
point p51d9a0  412 MiB changed, 400 MiB shipped, 210 MiB stored
"""
    )
    restored = render.run_ended(run(kind="restore", to="/x", target=""))
    assert restored == "run r8f2c  vg0/home  success in 6.1s\nrestored p51d9a0 to /x\n"
    failed = render.run_ended(run(result="failed", point="", target=""))
    assert failed == "run r8f2c  vg0/home  failed in 6.1s\n"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"state": "queued"}, "vg0/home  queued"),
        ({"phase": "scan"}, "vg0/home  scan"),
        ({"phase": "t", "done_bytes": 5, "expected_bytes": 10}, "vg0/home  t  5 B of 10 B  50%"),
        ({"phase": "t", "done_bytes": 11, "expected_bytes": 10}, "vg0/home  t  11 B of 10 B  100%"),
        ({"phase": "p1", "kind": "verify", "volume": "", "done_bytes": 1, "expected_bytes": 3},
         "all volumes  p1  1 B of 3 B  33%"),
        ({"phase": "t", "expected_bytes": 10, "rate": 5.0, "eta": 2.0},
         "vg0/home  t  0 B of 10 B  0%  5 B/s  ETA 2.0s"),
    ],
)  # fmt: skip
def test_progress(changes: dict[str, Any], wanted: str) -> None:
    assert render.progress(run(**changes)) == wanted


def test_event() -> None:
    found = cast("Event", {
        "seq": 7, "time": format_time(NOW), "severity": "critical", "volume": "vg0/home",
        "type": "proof-mismatch", "message": "bad\x1b[2Jblock\n",
    })  # fmt: skip
    text = render.event(found, TODAY, colour=False)
    assert text == "7 14:05:00Z critical vg0/home proof-mismatch - bad�[2Jblock�"
    assert "\x1b[31;1mcritical\x1b[0m" in render.event(found, TODAY, colour=True)
    assert render.event_plain(found).count("\t") == 5


def test_details() -> None:
    found = {"schema": 1, "id": "p1", "size": 1 << 30, "tags": ["a", "b"], "note": "", "eta": None,
             "rate": 1.5, "proof": {"checked": 3, "ranges": []}, "full": False}  # fmt: skip
    assert (
        render.details(found)
        == """\
id     p1
size   1073741824 (1.0 GiB)
tags   a b
rate   1.5
proof  checked=3
full   False
"""
    )


def test_nothing_steers_the_terminal() -> None:
    evil = "\x1b]0;x\x07\r\n"
    volume = volume_status(evil, causes=[{"code": evil, "message": evil}])
    page = render.status(status(volume, host=evil), colour=False)
    assert not set(page) & {"\x1b", "\x07", "\r"}
    assert "\x1b" not in render.run_ended(run(volume=evil, warnings=[evil]))
    assert "\x1b" not in render.details({"message": evil})
