"""explain: from the command line to what an operator reads at night."""

from __future__ import annotations

import pytest

from blocksnapctl import explaining
from blocksnapctl.explanations import words
from blocksnapd.control.messages import format_time, problem
from blocksnapd.errors import StoreFullError
from tests.control.serving import serving
from tests.ctl.calling import calling
from tests.fakes.operations import NOW, volume_status

FULL = problem(
    StoreFullError("no room left on the vault", effect="Nothing was stored.", hint="Make room.")
)


def late(**changes: object) -> str:
    changes = {"state": "late", "exposure": 1384.0, "retry": 3, "causes": [FULL], **changes}
    volume = volume_status("vg0/mail", **changes)
    head, lines = explaining.of_volume(volume, format_time(NOW))
    return "\n".join([head, *(f"{key} {text}" for key, text in lines)])


def test_a_volume_that_is_late() -> None:
    assert late() == (
        "vg0/mail is LATE: its newest point is 23m04s old, the RPO is 10m00s.\n"
        "cause no room left on the vault  Nothing was stored.  Make room.  [E-REPO-FULL]\n"
        "effect Changes since 14:04:00Z, the last 23m04s, exist only on this host.\n"
        "effect The COW space of its snapshot is 4% full; 960 B more can change.\n"
        "next Retry 3 in 1m48s.\n"
        "do Make room, or keep less: blocksnapctl prune VOLUME --dry-run shows what that frees.\n"
        "docs blocksnap-explain(7)  E-REPO-FULL"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "protected", "exposure": 72.0, "causes": []}, "cause The newest point is young"),
        ({"state": "failing", "exposure": 400.0}, "It will be late in 3m20s if nothing changes."),
        ({"exposure": None, "last_point": None, "state": "unprotected"}, "cost the whole volume"),
        ({"cow": None, "active_run": {"id": "r1", "phase": "ship", "eta": 61.0}},
         "next Run r1 is under way (ship), about 1m01s left."),
        ({"paused": {"reason": "a large import", "until": None}, "causes": []},
         "cause a large import"),
        ({"paused": {"reason": "", "until": None}, "causes": []}, "cause Somebody paused"),
    ],
)  # fmt: skip
def test_other_states(changes: dict[str, object], said: str) -> None:
    assert said in late(**changes)


async def test_a_code_needs_no_daemon() -> None:
    found = await calling("explain", "repo-full", "--socket", "/nowhere")
    assert (found.code, found.err) == (0, "")
    assert "  cause   The place of the repository has no room." in found.out
    every = await calling("explain", "--all", "--json", "--socket", "/nowhere")
    assert [line["item"] for line in every.lines] == words()
    assert all({x["about"] for x in line["lines"]} == {"cause", "effect", "do"}
               for line in every.lines)  # fmt: skip


async def test_volumes_runs_and_points() -> None:
    async with serving() as served:
        args = ("--socket", served.path)
        everything = await calling("explain", *args)
        assert everything.code == 0
        assert "vg0/home is protected" in everything.out
        assert "/srv/disk image.raw is " in everything.out
        run_id = (await calling("run", "vg0/home", "--json", *args)).lines[0]["id"]
        assert f"run {run_id} (cycle of vg0/home)" in (await calling("explain", run_id, *args)).out
        failed = StoreFullError("no room")
        await served.operations.finish(run_id, "failed", failed)
        told = (await calling("explain", run_id, *args, "--plain")).out
        assert f"{run_id}\tdo\tMake room" in told
        assert "crash-consistent" in (await calling("explain", "p0002", *args)).out
        nothing = await calling("explain", "nobody", *args)
        assert (nothing.code, nothing.out) == (11, "")
        assert "explain --all" in nothing.err


def test_a_cow_device_that_fills_or_was_lost() -> None:
    cow = {"size": 1 << 30, "used": 1 << 29, "rate": float(1 << 20), "full_in": 512.0}
    told = late(cow={**cow, "advice": "cow.size should be 2.0 GiB"})
    assert "It fills by 1.0 MiB/s: full in 8m32s if that goes on." in told
    assert "do cow.size should be 2.0 GiB" in told
    told = late(cow={**cow, "is_lost": True})
    assert "The kernel gave that snapshot up: the next run compares the whole volume." in told
    assert "It fills" not in told
