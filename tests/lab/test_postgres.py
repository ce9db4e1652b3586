"""A real PostgreSQL under load: whatever point is restored, it starts, recovers and is whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lab import postgres
from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine
    from tests.lab.machine import Event, Result

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB, 8192 * MIB, 4096 * MIB]

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.fixture(scope="module", autouse=True)
def _postgres() -> None:
    if postgres.bin_dir() is None:
        sentence = "there is no PostgreSQL server (make setup)"
        if os.environ.get("BLOCKSNAP_LAB_REQUIRED"):
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)


def told(result: Result, name: str) -> list[Event]:
    return [event for event in result.events if event["event"] == name]


@pytest.mark.parametrize("kind", ["xfs", "ext4"])
def test_every_point_is_a_cluster_that_starts_and_is_whole(
    make_machine: MakeMachine, kind: str
) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "postgres_flow.py", kind, blank=True, limit_s=1200)
    made, checked = told(result, "point"), told(result, "checked")
    whole = {found["id"]: found for found in checked}
    for point in made:
        found = whole[point["run"]["point"]]
        assert (point["code"], point["run"]["result"], point["released"]) == (0, "success", True)
        # Nothing that was committed before is lost.
        assert point["before"] <= found["committed"] <= point["after"], (point, found)
    for found in checked:
        assert found["amcheck"] == ""
        assert found["recovered"]  # it was running: nobody stopped it for the snapshot
        assert len(set(found["sums"])) == 1, found  # each transaction is whole
    assert made[0]["before"] < made[-1]["before"]  # it was at work meanwhile
    elsewhere = result.event("elsewhere")
    assert (elsewhere["code"], elsewhere["run"]["result"]) == (13, "warning")
    assert "does not lie on vg/data" in elsewhere["run"]["warnings"][0]
    points = {p["id"]: p["consistency"] for p in result.event("points")["points"]}
    assert points.pop(elsewhere["run"]["point"]) == "crash"
    assert set(points.values()) == {"application"}  # also the first, which the start made
    assert len(checked) == len(points) + 1 == len(made) + 2
    assert result.event("stopped")["status"] == 0
