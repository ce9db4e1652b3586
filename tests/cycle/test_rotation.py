from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from blocksnapd.cycle.rotation import Asked, Command, Remove, Repair, Ship, Take, Wait, decide
from blocksnapd.model import HostView, PointHead, SeenSnapshot

HEAD = PointHead("n", "d", 7, "head", datetime(2026, 1, 1, tzinfo=UTC), 1 << 20, 4096, 5)


def seen(*snapshots: str) -> HostView:
    """``"head+"`` is the base and good, ``"pending-"`` invalid, ``"x?"`` half made."""
    states = {"+": "good", "-": "invalid", "?": "half"}
    return HostView(
        "v", 1 << 20, tuple(SeenSnapshot(f"bs_{s}", s[:-1], states[s[-1]]) for s in snapshots)
    )  # type: ignore[arg-type]


IDLE, DUE = Asked(due=False), Asked(due=True)


@pytest.mark.parametrize(
    ("view", "head", "pending", "asked", "expected"),
    [
        (seen(), None, "", DUE, Take()),
        (seen(), None, "", IDLE, Wait()),
        (seen("pending+"), None, "pending", IDLE, Ship("pending", "first", reason="first")),
        (seen("head+"), HEAD, "", IDLE, Wait()),
        (seen("head+"), HEAD, "", DUE, Take()),
        (seen("head+", "pending+"), HEAD, "pending", IDLE, Ship("pending", "tracked", "head")),
        (
            seen("head-", "pending+"),
            HEAD,
            "pending",
            IDLE,
            Ship("pending", "compare", reason="overflow"),
        ),
        (
            seen("pending+"),
            HEAD,
            "pending",
            IDLE,
            Ship("pending", "compare", reason="tracking-gone"),
        ),
        (
            seen("head+", "pending+"),
            HEAD,
            "pending",
            Asked(due=False, compare="asked"),
            Ship("pending", "compare", reason="asked", check_id="head"),
        ),
        (
            seen("head+", "pending-"),
            HEAD,
            "pending",
            IDLE,
            Remove("pending", "it became invalid before it was shipped"),
        ),
        (seen("head-"), HEAD, "", DUE, Remove("head", "overflow")),
        (seen("head-"), HEAD, "", IDLE, Wait()),
        # Committed, and killed before the old one was removed; the journal still says pending.
        (seen("older+", "head+"), HEAD, "head", DUE, Remove("older", "left over")),
        # A snapshot of a point that no journal knows.
        (seen("head+", "lost+"), HEAD, "", IDLE, Remove("lost", "left over")),
        (seen("head+", "pending?"), HEAD, "pending", DUE, Repair()),
    ],
)
def test_table(
    view: HostView, head: PointHead | None, pending: str, asked: Asked, expected: Command
) -> None:
    assert decide(view, head, pending, tracks=True, asked=asked) == expected


def test_a_source_that_does_not_track_compares() -> None:
    command = decide(seen("head+", "next+"), HEAD, "next", tracks=False, asked=IDLE)
    assert command == Ship("next", "compare", reason="untracked")


def test_every_state_has_a_command_that_never_removes_the_only_good_tracking() -> None:
    """All states of three snapshots: a good base is removed by no command at all."""
    states = ["", "+", "-", "?"]
    for base, pending, other, known, due in product(states, states, states, [True, False], [0, 1]):
        names = [n + s for n, s in (("head", base), ("pending", pending), ("x", other)) if s]
        command = decide(
            seen(*names),
            HEAD,
            "pending" if known else "",
            tracks=True,
            asked=Asked(due=bool(due)),
        )
        assert command != Remove("head", "left over")
        if isinstance(command, Take):
            assert not pending
            assert not other
