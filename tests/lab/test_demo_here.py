"""``make demo HERE=1`` on a host with device-mapper: it plays, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

pytestmark = pytest.mark.lab
SCRIPT = GUEST_DIR / "demo_here.py"


@pytest.mark.long
def test_it_plays_and_leaves_nothing(make_machine: MakeMachine) -> None:
    result = make_machine(memory_mib=3072).run(SCRIPT, "whole", limit_s=400, blank=True)
    played = result.event("played")
    assert played["status"] == 0
    assert set(played["left"].values()) == {""}


def test_interrupted_it_leaves_nothing(make_machine: MakeMachine) -> None:
    result = make_machine(memory_mib=2048).run(SCRIPT, "interrupted", limit_s=300, blank=True)
    played = result.event("played")
    assert played["status"] != 0
    assert set(played["left"].values()) == {""}
