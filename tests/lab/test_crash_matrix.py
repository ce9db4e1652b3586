"""The daemon killed at every step of its cycles, and the whole machine at some of them.

Whatever happened: every committed point is, byte for byte, what its snapshot held; after a
recovery one snapshot is left and nothing else; and no point but the first reads the whole volume.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.machine import GUEST_DIR, repeat_aborted

if TYPE_CHECKING:
    from tests.conftest import MakeMachine
    from tests.lab.machine import Event, Result

MIB = 1 << 20
SIZES = [1024 * MIB, 2048 * MIB, 8192 * MIB, 32768 * MIB]

STEPS = ["begun", "taken", "noted", "listed", "shipped", "sealed", "committed", "ended", "removed"]
PLACES = [*STEPS[:1], "taking", *STEPS[1:4], "shipping", *STEPS[4:8], "removing", *STEPS[8:]]
FIRST = [f"first:{place}" for place in PLACES if place not in ("removing", "removed")]
# There the daemon left a snapshot whose point the next one finishes.
UNFINISHED = {"taking", "taken", "noted", "listed", "shipping", "shipped", "sealed"}

pytestmark = pytest.mark.lab


def check_rest(left: Event) -> None:
    """One snapshot, whole, and no device or volume besides."""
    (point_id,) = left["snapshots"]
    top = f"vg-bs_{point_id}"
    assert left["devices"] == [top, f"{top}-cow", "vg-data", "vg-data-real"]
    assert sorted(left["volumes"]) == [f"bs_{point_id}", "data"]


def check_death(death: Event) -> None:
    """What the next daemon found, did and left, for the place where the last one died."""
    place = death["at"].removeprefix("first:")
    assert death["error"] == "", death
    assert death["events"] == [], death
    assert not death["suspended"], death
    if place in STEPS:
        assert death["steps"] == STEPS[: STEPS.index(place) + 1], death
    assert len(death["points"]) == (place in UNFINISHED), death
    assert set(death["points"]) <= set(death["left"]["snapshots"]), death
    if death["at"] == "first:begun":
        assert death["left"] == {"snapshots": [], "devices": ["vg-data"], "volumes": ["data"]}
        return
    check_rest(death["left"])


def check_points(points: list[dict[str, Any]]) -> None:
    """Each equal to its reference; each but the first from the exception table alone."""
    assert [p["compared"] for p in points] == ["equal"] * len(points), points
    assert [p["method"] for p in points] == ["first"] + ["tracked"] * (len(points) - 1), points
    assert [p["mismatched"] for p in points] == [0] * len(points), points
    assert all(p["checked"] > 0 for p in points[1:]), points


def check_matrix(result: Result, places: list[str]) -> None:
    """Check everything that crash_matrix.py told."""
    deaths = [event for event in result.events if event["event"] == "died"]
    assert [death["at"] for death in deaths] == places
    for death in deaths:
        check_death(death)
    for cycle in (event for event in result.events if event["event"] == "cycled"):
        assert (len(cycle["points"]), cycle["error"], cycle["events"]) == (1, "", []), cycle
        check_rest(cycle["left"])
    compared = {e["what"]: e["points"] for e in result.events if e["event"] == "compared"}
    for place in places:
        if place.startswith("first:"):
            check_points(compared[place])
            finished = 1 if place == "first:begun" else 2
            assert len(compared[place]) == finished, compared[place]
    tracked = [place for place in places if not place.startswith("first:")]
    if tracked:
        check_points(compared["tracked"])
        assert len(compared["tracked"]) == 2 + len(tracked) - tracked.count("begun")


def run_matrix(
    make_machine: MakeMachine, kind: str, size_mib: int, chunk_size: int, places: list[str]
) -> None:
    result = make_machine(SIZES).run(
        GUEST_DIR / "crash_matrix.py", kind, str(size_mib), str(chunk_size), *places,
        blank=True, limit_s=1500,
    )  # fmt: skip
    check_matrix(result, places)


def test_killed_at_each_place_of_a_tracked_cycle(make_machine: MakeMachine) -> None:
    run_matrix(make_machine, "raw", 24, 4096, PLACES)


def test_killed_in_the_first_full_copy(make_machine: MakeMachine) -> None:
    places = ["first:taking", "first:shipping", "first:committed"]
    run_matrix(make_machine, "raw", 24, 65536, [*places, "shipped"])


@pytest.mark.long
@pytest.mark.parametrize("chunk_size", [4096, 65536])
@pytest.mark.parametrize(("kind", "size_mib"), [("raw", 64), ("xfs", 300), ("ext4", 128)])
def test_killed_everywhere(
    make_machine: MakeMachine, kind: str, size_mib: int, chunk_size: int
) -> None:
    """Each place in the first full copy; each place in tracked cycles, in random order."""
    places = [*PLACES]
    random.Random(f"{kind} {chunk_size}").shuffle(places)
    run_matrix(make_machine, kind, size_mib, chunk_size, FIRST + places)


def check_life(events: list[Event], cut_at: str) -> None:
    """Check one life of a machine after the loss of power at ``cut_at``."""
    told = {event["event"]: event for event in events}
    assert "Activated vg/data." in told["attached"]["said"], told["attached"]
    recovered, cycled = told["recovered"], told["cycled"]
    assert recovered["error"] == cycled["error"] == "", told
    if cut_at in STEPS or cut_at == "shipping":
        assert len(recovered["points"]) == (cut_at in UNFINISHED), recovered
    assert len(cycled["points"]) == 1, cycled
    check_rest(recovered["left"])
    check_rest(cycled["left"])
    check_points(told["compared"]["points"])


def cut_power(
    make_machine: MakeMachine, kind: str, size_mib: int, chunk_size: int, places: list[str]
) -> None:
    """Let one machine live on through a loss of power at each of ``places``."""
    volume = (kind, str(size_mib), str(chunk_size))
    script = GUEST_DIR / "crash_power.py"

    def lives() -> None:
        machine = make_machine(SIZES)
        guest = machine.boot(script, "make", *volume, places[0])
        for place, following in zip(places, [*places[1:], None], strict=True):
            guest.wait_for("cut", limit_s=240)
            guest.kill()
            guest = machine.boot(script, "go on", *volume, *([following] if following else []))
            guest.wait_for("compared", limit_s=240)
            check_life(guest.events(), place)
        guest.wait()

    repeat_aborted(lives)


def test_the_power_fails(make_machine: MakeMachine) -> None:
    cut_power(make_machine, "xfs", 300, 4096, ["shipping", "committed"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "size_mib", "chunk_size"),
    [("raw", 64, 4096), ("raw", 64, 65536), ("xfs", 300, 65536), ("ext4", 128, 4096)],
)
def test_the_power_fails_everywhere(
    make_machine: MakeMachine, kind: str, size_mib: int, chunk_size: int
) -> None:
    cut_power(make_machine, kind, size_mib, chunk_size, PLACES)
