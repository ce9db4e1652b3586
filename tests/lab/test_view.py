"""A volume as it was, shown by a real kernel beside what it is: equal, lasting, ended, killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB, 4096 * MIB, 8192 * MIB]
NOTHING = {"devices": [], "volumes": [], "loops": ["/run/lab/snapshots/cow.img"], "files": []}

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.mark.parametrize(
    ("kind", "size_mib", "kills"),
    [("ext4", 96, []), ("xfs", 300, ["kill"])],
)
def test_a_volume_as_it_was(
    make_machine: MakeMachine, kind: str, size_mib: int, kills: list[str]
) -> None:
    """While it is mounted, written to and protected; what a killed worker left is cleared away."""
    result = make_machine(SIZES).run(
        GUEST_DIR / "view.py", kind, str(size_mib), "24", *kills, blank=True, limit_s=600
    )
    views = {event["name"]: event for event in result.events if event["event"] == "view"}
    assert views.keys() == {"read-only", "writable"}
    for view in views.values():
        assert (view["code"], view["run"]["result"], view["run"]["warnings"]) == (0, "success", [])
        assert view["found"] == view["wanted"]
        assert 24 * MIB <= view["run"]["changed_bytes"] < 80 * MIB  # what differs, not the volume
    lasts = result.event("lasts")
    assert lasts["found"] == lasts["wanted"]
    if kills:
        assert result.event("killed")["left"]["volumes"] != []
    mounted = result.event("mounted")
    assert (mounted["code"], mounted["ballast"]) == (75, 24 * MIB)
    assert "is in use" in mounted["said"][0]["message"]
    ended = [event for event in result.events if event["event"] == "ended"]
    assert [(end["code"], end["left"]) for end in ended] == [(0, NOTHING)] * (2 + len(kills))
    points = result.event("compared")["points"]
    assert [point["method"] for point in points] == ["first", *["tracked"] * 3]
    assert {point["compared"] for point in points} == {"equal"}
    last = points[-1]["id"]
    stopped = result.event("stopped")
    assert stopped["devices"] == [f"vg-bs_{last}", f"vg-bs_{last}-cow", "vg-data", "vg-data-real"]
