"""A real MariaDB under load: whatever point is restored, it starts, recovers and is whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lab import mariadb
from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB, 8192 * MIB, 4096 * MIB]

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.fixture(autouse=True)
def _mariadb() -> None:
    if not mariadb.is_there():
        sentence = "there is no MariaDB server (make setup)"
        if os.environ.get("BLOCKSNAP_LAB_REQUIRED"):
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)


def test_every_point_is_a_server_that_starts_and_is_whole(make_machine: MakeMachine) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "mysql_flow.py", blank=True, limit_s=900)
    made = [event for event in result.events if event["event"] == "point"]
    checked = {event["id"]: event for event in result.events if event["event"] == "checked"}
    for point in made:
        assert (point["code"], point["run"]["result"]) == (0, "success"), point
        found = checked[point["run"]["point"]]
        # Nothing that was committed before is lost, also what the server had not synced by itself.
        assert point["before"] <= found["committed"] <= point["after"], (point, found)
    for found in checked.values():
        assert found["recovered"]  # it was running: nobody stopped it for the snapshot
        assert found["said"].count("OK") == 2
        assert len(set(found["sums"])) == 1, found  # each transaction is whole
    assert made[0]["before"] < made[-1]["before"]  # it was at work meanwhile
    refused = result.event("refused")
    assert (refused["code"], refused["run"]["result"]) == (13, "warning")
    assert "bench.old (MyISAM)" in refused["run"]["warnings"][0]
    points = {p["id"]: p["consistency"] for p in result.event("points")["points"]}
    assert points.pop(refused["run"]["point"]) == "crash"
    assert set(points.values()) == {"application"}
    assert len(checked) == len(points) == len(made) + 1
    assert result.event("stopped")["status"] == 0
