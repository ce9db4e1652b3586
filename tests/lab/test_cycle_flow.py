"""The daemon and its command line on a real kernel: good days, a stop, two lies, an overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import BROWSER, measured
from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeMachine
    from tests.lab.machine import Event, Result

MIB = 1 << 20
SIZES = [1024 * MIB, 512 * MIB, 8192 * MIB, 16384 * MIB]
MUCH = 48 * MIB  # what the guest changes before an overflow
BLOCK_SIZE = 4096
EXIT_OK, EXIT_WARNING = 0, 13

pytestmark = pytest.mark.lab

# How each cycle asked for has to end: exit code, result, reason.
CYCLES = {
    "good 0": (EXIT_OK, "success", "first"),
    "good 1": (EXIT_OK, "success", ""),
    "good 2": (EXIT_OK, "success", ""),
    "cow lie": (EXIT_WARNING, "warning", "proof-mismatch"),
    "fingerprint lie": (EXIT_WARNING, "warning", "fingerprints-wrong"),
    "overflow": (EXIT_WARNING, "warning", "overflow"),
    "after the overflow": (EXIT_OK, "success", ""),
}


def cycles_of(result: Result) -> dict[str, Event]:
    return {event["name"]: event for event in result.events if event["event"] == "cycle"}


def check_cycles(cycles: dict[str, Event]) -> None:
    """Each ended as it should, and left the snapshot of its point and nothing else."""
    ends = {name: (c["code"], c["result"], c["reason"]) for name, c in cycles.items()}
    assert ends == CYCLES
    for cycle in cycles.values():
        top = f"vg-bs_{cycle['point']}"
        assert cycle["alive"] == [cycle["point"]], cycle
        assert cycle["devices"] == [top, f"{top}-cow", "vg-data", "vg-data-real"], cycle


def check_points(cycles: dict[str, Event], stopped: Event, points: list[dict[str, Any]]) -> None:
    """All points are there, each equal to its reference, each made the way it had to be."""
    assert [p["compared"] for p in points] == ["equal"] * len(points), points
    order = [cycle["point"] for cycle in cycles.values()]
    order.insert(order.index(stopped["newest"]) + 1, stopped["pending"])
    assert [p["id"] for p in points] == order
    methods = ["first", *["tracked"] * 3, "compare", "compare", "compare", "tracked"]
    assert [p["method"] for p in points] == methods
    full = {"good 0", "fingerprint lie"}
    assert {p["id"] for p in points if p["kind"] == "full"} == {cycles[n]["point"] for n in full}


def check_cow_lie(cycle: Event, lie: Event) -> None:
    """One block of saved content was altered: an event, a metric, a suspect point."""
    (event,) = lie["events"]
    start = cycle["block"] * BLOCK_SIZE
    assert event["severity"] == "critical"
    assert event["data"]["suspect"] == cycle["base"]
    assert event["data"]["mismatched_blocks"] == 1
    assert event["data"]["ranges"] == [[start, start + BLOCK_SIZE]]
    assert lie["metrics"]['blocksnap_proof_mismatched_blocks_total{volume="vg/data"}'] == 1
    assert lie["suspect"] == [cycle["base"]]


def check_page(folder: Path, text: str, count: int) -> None:
    """The page of such a life, in a browser: every drawing is there, and nothing overlaps."""
    found = measured(folder, text, 1000)
    assert (found["over"], found["sideways"], found["loaded"]) == ([], False, 0)
    # Exposure: a tooth for each point; what each changed and stored; COW fill; a row for each.
    wanted = (count, 2 * count, 2, count)
    assert all(a >= b for a, b in zip(found["marks"], wanted, strict=True)), found["marks"]
    for said in ("vg/data", "overflow", "suspect"):
        assert said in text


@pytest.mark.parametrize(
    ("kind", "size_mib", "chunk_size"),
    [
        ("xfs", 300, 4096),
        pytest.param("xfs", 300, 65536, marks=pytest.mark.long),
        pytest.param("ext4", 200, 4096, marks=pytest.mark.long),
        pytest.param("ext4", 200, 65536, marks=pytest.mark.long),
    ],
)
def test_good_days_and_bad_ones(
    make_machine: MakeMachine, kind: str, size_mib: int, chunk_size: int
) -> None:
    machine = make_machine(SIZES)
    result = machine.run(
        GUEST_DIR / "cycle_flow.py", kind, str(size_mib), str(chunk_size), blank=True, limit_s=600
    )
    cycles, stopped = cycles_of(result), result.event("stopped")
    points = {point["id"]: point for point in result.event("compared")["points"]}
    check_cycles(cycles)
    check_points(cycles, stopped, list(points.values()))
    assert result.event("status")["states"] == ["protected"]
    assert stopped["status"] == 0
    assert stopped["stop_s"] < 30
    check_cow_lie(cycles["cow lie"], result.event("lie"))
    assert result.event("fingerprints")["events"][0]["severity"] == "error"
    assert cycles["overflow"]["status"] == "Invalid"
    overflow = points[cycles["overflow"]["point"]]
    assert MUCH <= overflow["changed"] < 2 * MUCH  # what differs, not the whole volume
    metrics = result.event("overflowed")["metrics"]
    assert metrics['blocksnap_cow_overflows_total{volume="vg/data"}'] == 1
    assert metrics['blocksnap_full_scans_total{reason="overflow",volume="vg/data"}'] == 1
    assert (result.event("restored")["code"], result.event("restored")["differs"]) == (0, "")
    assert result.event("ended")["status"] == 0
    if BROWSER is not None:
        check_page(machine.folder, (machine.out / "page.html").read_text(), len(points))
