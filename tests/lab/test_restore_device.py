"""Restores onto real logical volumes: what is refused, and what is on them afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20

pytestmark = pytest.mark.lab

REFUSED = {
    "mounted": "/dev/vg/mounted is in use: mounted at /run/lab/m.",
    "swap": "/dev/vg/swap is in use: holds swap space.",
    "small": "has 16777216 bytes, the image 20969984: it does not fit.",
    "opened": "open for writing by",
    "held": "/dev/ubda is in use: part of dm-0 (vg-mounted)",
    "idle": "/dev/ubdb is an LVM physical volume.",
    "formatted": "holds an ext2/3/4 file system.",
    "s0": "is read-only.",
    "origin-real": "(vg-origin)",
    "s0-cow": "(vg-s0)",
}


def test_a_restore_onto_logical_volumes(make_machine: MakeMachine) -> None:
    """Refused are all that are in use; where it is allowed, every byte is the image's."""
    result = make_machine([512 * MIB, 128 * MIB]).run(GUEST_DIR / "restore_device.py", blank=True)
    said = {e["what"]: e["said"] for e in result.events if e["event"] == "refused"}
    assert said.keys() == REFUSED.keys()
    for what, (kind, message) in said.items():
        assert kind == "RefusedError", (what, message)
        assert REFUSED[what] in message, what
    restored = [event for event in result.events if event["event"] == "restored"]
    assert len(restored) == 3
    for event in restored:
        assert event["found"] == event["wanted"]
    flawed = result.event("flawed")
    assert flawed["said"] == "HostError"
    assert "its beginning is blank" in flawed["effect"]
    assert flawed["blank"]
