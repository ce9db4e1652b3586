"""The change source ``lvm`` on a real kernel: set-up, snapshots, content, removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20
SIZES = [1024 * MIB, 2048 * MIB]

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(("kind", "chunk_size"), [("xfs", 4096), ("ext4", 65536)])
def test_a_cycle_lists_every_change_and_holds_every_old_byte(
    make_machine: MakeMachine, kind: str, chunk_size: int
) -> None:
    """Compared chunk by chunk with what the snapshots themselves hold, under write load."""
    result = make_machine(SIZES).run(GUEST_DIR / "lvm_cycle.py", kind, str(chunk_size), blank=True)
    created = result.event("created")
    assert len(created["first"]) == 4
    assert created["again"] == []
    assert created["mode"] == "0o600"
    compared = result.event("compared")
    assert compared["missing"] == []
    assert compared["saved_wrong"] == []
    assert compared["saved_all"]
    assert compared["listed"] >= compared["changed"] > 10
    assert compared["size_read"] == 300 * MIB
    cycled = result.event("cycled")
    assert cycled["states"] == ["good", "good"]
    assert all(size >= 300 * MIB for size in cycled["full_size"])
    assert cycled["left"] == ["p0000000000000002"]
    assert cycled["findings"] == []
    assert cycled["held_after"] < cycled["held"]  # removal punched the sparse file
    assert all(0 < seconds < 2 for seconds in cycled["suspend_s"])
    assert result.event("programs")["programs"] == ["lvm", "lvcreate", "lvremove"]
    first, same = result.event("programs")["guards"]
    assert first == same
    assert result.event("once more")["guards"][2] != first  # it went when the removal was done
    assert result.event("programs")["left"] == ["p0000000000000001"]
    assert result.event("removed")["devices"] == ["vg-data"]
    assert result.event("removed")["held"] == -1  # the file is gone
