"""Whose a view is, by its name alone; making and ending them is in tests.lab.test_view."""

from __future__ import annotations

import pytest

from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.cycle.view_device import base_name, cow_file, device_name, point_of

PLAIN, LONGER = VolumeName.parse("vg/x"), VolumeName.parse("vg/x-y")
POINT = "p0123456789abcdef"


@pytest.mark.parametrize("volume", [PLAIN, LONGER, VolumeName.parse("my-vg/x")])
def test_a_name_tells_the_volume_and_the_point(volume: VolumeName) -> None:
    name = device_name(volume, POINT)
    assert point_of(volume, name) == POINT
    assert cow_file(volume, POINT, "/mnt/a b") == f"/mnt/a b/{name}.cow"
    assert point_of(volume, f"{name}.cow") == POINT


def test_another_volume_s_is_never_taken_for_ours() -> None:
    assert point_of(PLAIN, device_name(LONGER, POINT)) == ""
    assert point_of(LONGER, device_name(PLAIN, POINT)) == ""
    for name in ("vg-x", "blocksnap-view-vg-x-", "blocksnap-view-vg-x", "vg-bsview_p1"):
        assert point_of(PLAIN, name) == ""


def test_the_snapshot_below() -> None:
    assert base_name(POINT) == f"bsview_{POINT}"
    with pytest.raises(ValueError, match="cannot name"):
        base_name("a/b")
