"""prune, hold, release, undelete: from the command line to the daemon and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.control.messages import problem
from blocksnapd.errors import RefusedError
from tests.control.serving import serving
from tests.ctl.calling import calling
from tests.fakes.operations import plan

if TYPE_CHECKING:
    from pathlib import Path

PLAN_ID = "pl-00000001"
GUARDS = [{"name": "max_delete_pct", "text": "80 of 90 points would be forgotten"}]


def prepared(served: Any, *, result: str = "success", **changes: Any) -> tuple[str, ...]:
    """Let the next run end with a plan; return the arguments that ask this server."""
    operations = served.operations
    operations.plans[PLAN_ID] = plan(**changes)
    error = None
    if result == "failed":
        refusal = RefusedError("80 of 90 points would be forgotten", hint="ask")
        error = problem(refusal)
    operations.script = [
        {"phase": "measure", "done_bytes": 3, "expected_bytes": 9},
        {"state": "done", "result": result, "plan": PLAN_ID, "error": error},
    ]
    return ("--socket", served.path)


async def test_a_dry_run_shows_the_plan() -> None:
    async with serving() as served:
        args = prepared(served)
        found = await calling("prune", "vg0/home", "--dry-run", *args)
        assert found.code == 0
        assert "p0001000000000000  2026-11-22 13:55:00Z  forget" in found.out
        assert "refused" not in found.out
        assert served.operations.asked[0][0] == {
            "kind": "prune", "volume": "vg0/home", "dry_run": True,
        }  # fmt: skip


async def test_a_dry_run_tells_who_would_refuse() -> None:
    async with serving() as served:
        found = await calling("prune", "vg0/home", "-n", *prepared(served, refused=GUARDS))
        assert found.code == 0
        command = f"blocksnapctl prune --apply {PLAN_ID}"
        assert f"refused: 80 of 90 points would be forgotten.  To go on:  {command}" in found.out
        assert found.err == ""


async def test_progress_is_shown_on_a_terminal() -> None:
    async with serving() as served:
        args = prepared(served)
        found = await calling("prune", "vg0/home", "-n", *args, tty=True, TERM="xterm")
        assert "measure  3 of 9 points" in found.err


async def test_a_prune_that_no_guard_stops() -> None:
    async with serving() as served:
        found = await calling("prune", "vg0/home", *prepared(served, applied=True))
        assert (found.code, found.err) == (0, "")
        assert found.out.startswith("vg0/home  forgot 1 point, kept 2; until 2026-12-06 14:05Z")


async def test_a_guard_stops_it_and_tells_how_to_go_on() -> None:
    async with serving() as served:
        args = prepared(served, result="failed", refused=GUARDS)
        found = await calling("prune", "vg0/home", *args)
        assert found.code == 12
        assert "forget 1 (33 %)" in found.out
        assert "80 of 90 points would be forgotten [E-REFUSED]" in found.err
        assert f"To go on: blocksnapctl prune --apply {PLAN_ID}" in found.err
        document = await calling("prune", "vg0/home", *args, "--json")
        assert [line.get("id") or line["type"] for line in document.lines] == [PLAN_ID, "error"]
        assert document.code == 12
        plain = await calling("prune", "vg0/home", *args, "--plain")
        assert plain.out.splitlines()[0].split("\t")[2] == "forget"


async def test_warnings_are_told() -> None:
    async with serving() as served:
        args = prepared(served, result="warning")
        served.operations.script[-1]["warnings"] = ["what it frees is not known: a layer"]
        found = await calling("prune", "vg0/home", "-n", *args)
        assert (found.code, found.err) == (
            13, "vg0/home: what it frees is not known: a layer\n",
        )  # fmt: skip


async def test_all_volumes_with_a_retention() -> None:
    async with serving() as served:
        args = prepared(served, applied=True)
        found = await calling("prune", *args)
        assert found.code == 0
        assert [asked["volume"] for asked, _ in served.operations.asked] == ["vg0/home"]
        served.operations.volumes["vg0/home"]["keep"] = []
        found = await calling("prune", *args)
        assert found.code == 2
        assert "[retention.NAME]" in found.err


async def test_applying_a_plan() -> None:
    async with serving() as served:
        args = prepared(served)
        found = await calling("prune", "--apply", PLAN_ID, *args)
        assert found.code == 0
        assert "forgot 1 point" in found.out
        assert served.operations.asked == []
        assert (await calling("prune", "--apply", "pl-2", *args)).code == 11
        found = await calling("prune", "vg0/home", "--apply", PLAN_ID, *args)
        assert (found.code, "leave it out" in found.err) == (2, True)
        assert (await calling("prune", "--apply", PLAN_ID, "--dry-run", *args)).code == 2


async def test_the_daemon_is_not_told_what_to_keep() -> None:
    async with serving() as served:
        found = await calling("prune", "vg0/home", "--keep", "all for 2h", "--socket", served.path)
        assert (found.code, "configuration" in found.err) == (2, True)
        assert served.operations.asked == []


async def test_waiting_has_an_end() -> None:
    async with serving() as served:
        found = await calling("prune", "vg0/home", "--timeout", "50ms", "--socket", served.path)
        assert found.code == 124


async def test_hold_and_release() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("hold", "p0002", "--until", "2026-12-01", "--reason", "audit", *args)
        assert found.code == 0
        assert found.out.endswith("held until 2026-12-01 00:00:00Z: audit\n")
        points = (await calling("points", "vg0/home", *args)).out.splitlines()
        assert points[0].endswith("KEPT")
        assert points[2].endswith("held until 2026-12-01 00:00:00Z: audit")
        plain = (await calling("points", "vg0/home", *args, "--plain")).out.splitlines()
        assert plain[1].endswith("\tmanual\t2026-12-01T00:00:00.000Z\t\tnear")
        found = await calling("release", "p0002", *args)
        assert found.out.endswith("left to the retention\n")
        found = await calling("hold", "vg0/home@latest", *args, "--json")
        assert found.lines[0]["held"] == {
            "since": "2026-11-22T14:05:00.000Z", "until": None, "reason": "",
        }  # fmt: skip
        assert (await calling("hold", "p0404", *args)).code == 11


@pytest.mark.parametrize(
    ("until", "wanted"),
    [
        ("2026-12-01T14:00", "2026-12-01T14:00:00.000Z"),
        ("2026-12-01T14:00+01:00", "2026-12-01T13:00:00.000Z"),
        ("2026-12-01 14:00:30Z", "2026-12-01T14:00:30.000Z"),
    ],
)
async def test_until_when(until: str, wanted: str) -> None:
    async with serving() as served:
        found = await calling(
            "hold", "p0003", "--until", until, "--json", "--socket", served.path
        )  # fmt: skip
        assert found.lines[0]["held"]["until"] == wanted


async def test_until_in_words_of_time() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        found = await calling("hold", "p0003", "--until", "30d", "--plain", *args)
        assert found.out.split("\t")[9].startswith("20")
        for wrong in ("someday", "9" * 30 + "w"):
            found = await calling("hold", "p0003", "--until", wrong, *args)
            assert (found.code, "is no time" in found.err) == (2, True)


async def test_undelete() -> None:
    async with serving() as served:
        args, known = ("--socket", served.path), served.operations.known
        gone = {"since": "2026-11-22T14:00:00.000Z", "until": "2026-12-06T14:00:00.000Z",
                "reason": PLAN_ID}  # fmt: skip
        known[1] = {**known[1], "forgotten": gone}
        assert "p0002" not in (await calling("points", *args)).out
        shown = (await calling("points", "--all", *args)).out
        assert "forgotten, back until 2026-12-06 14:00:00Z" in shown
        plain = (await calling("points", "--all", "--plain", *args)).out.splitlines()
        assert plain[1].endswith("\t\t2026-12-06T14:00:00.000Z\tnear")
        found = await calling("undelete", "p0002", *args)
        assert found.out.endswith("held: brought back\n")
        assert "blocksnapctl release p0002" in found.err
        assert (await calling("undelete", "p0002", *args)).code == 12


async def test_a_repository_without_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("{}")
    args = ("--repo", "/srv/x", "--key", str(tmp_path / "key"))
    found = await calling("prune", "vg0/home", "-n", *args)
    assert (found.code, "--keep 'all for 2h'" in found.err) == (2, True)
    found = await calling("prune", "vg0/home", "-n")
    assert found.code == 10
    found = await calling("hold", "p0002", *args)
    assert found.out.endswith("held\n")
    found = await calling("hold", "p0002", "--repo", "/srv/x")
    assert (found.code, "--key FILE" in found.err) == (77, True)
