"""A real kernel takes the COW devices of ours, also where an area is exactly full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

pytestmark = pytest.mark.lab


@pytest.mark.long
def test_the_kernel_shows_what_was_written(make_machine: MakeMachine) -> None:
    result = make_machine([128 << 20]).run(GUEST_DIR / "cow_written.py", blank=True)
    shown = [event for event in result.events if event["event"] == "shown"]
    assert len(shown) == 9
    for event in shown:
        assert event["found"] == event["wanted"], event
    assert len({event["wanted"] for event in shown}) == 8  # two hold nothing
