"""The parser against live snapshots of a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZES = [1024 * MIB, 1024 * MIB]

pytestmark = pytest.mark.lab


def test_a_naive_reader_sees_a_stale_table_and_ours_the_true_one(
    make_machine: MakeMachine,
) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "stale_cache.py", blank=True)
    steps = [event for event in result.events if event["event"] == "step"]
    assert [step["kernel"] for step in steps] == [1280, 2560, 3840]
    assert [step["ours"] for step in steps] == [1280, 2560, 3840]
    assert all(step["ours_right"] for step in steps)
    # What the first reader brought into the cache stays: later readers see less than there is.
    assert all(step["naive"] < step["kernel"] for step in steps[1:])
    assert all(step["mapped"] < step["kernel"] for step in steps[1:])


@pytest.mark.parametrize(
    ("kind", "chunk_kib"), [("xfs", 4), ("xfs", 16), ("xfs", 64), ("xfs", 512), ("raw", 16)]
)
def test_every_chunk_that_changed_is_in_the_table(
    make_machine: MakeMachine, kind: str, chunk_kib: int
) -> None:
    result = make_machine(SIZES).run(
        GUEST_DIR / "table_covers.py", kind, str(chunk_kib << 10), "2", blank=True
    )
    seen = result.event("compared")
    assert seen["chunk_size"] == chunk_kib << 10
    assert seen["missing"] == []
    assert seen["listed"] >= seen["changed"] > 20


def test_lost_tracking_is_told_from_tracking_that_never_was(make_machine: MakeMachine) -> None:
    result = make_machine(SIZES).run(GUEST_DIR / "lost_tracking.py", blank=True)
    overflow, transient = result.event("overflow"), result.event("transient")
    assert overflow["kernel"] == "Invalid"
    assert overflow["refusal"] == "CowInvalidError"
    assert overflow["noticed"] == "CowInvalidError"
    assert transient["status"][0] > 0
    assert transient["refusal"] == "CowTransientError"
