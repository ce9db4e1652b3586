"""Cycles over a network that the kernel makes far, slow and lossy, and that is cut and heals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

pytestmark = pytest.mark.lab
LINE_RATE = 10e6 / 8


def test_a_bad_line_that_is_cut_and_heals(make_machine: MakeMachine) -> None:
    result = make_machine().run(GUEST_DIR / "far_network.py", blank=True, limit_s=200)
    full, cut = result.event("full"), result.event("cut")
    assert full["seconds"] > full["size"] / LINE_RATE  # the line is as slow as it says
    assert result.event("small")["seconds"] > 3 * 0.05
    assert cut["seconds"] > full["size"] / LINE_RATE + 4  # it was down for as long
    assert cut["runs"] == 1  # what waits goes on
    whole = result.event("whole")
    assert whole["points"] == 3
    assert whole["retransmitted"] > 10
    dropped = re.search(r"dropped (\d+)", result.event("line")["said"])
    assert dropped is not None
    assert int(dropped[1]) > 0
