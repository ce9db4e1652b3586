"""The order in which a stack of devices is resumed, on a model of the kernel's devices.

That the model is right shows in the lab, where lvm2 is killed for real (test_lvm_kill.py).
"""

from __future__ import annotations

from typing import cast

import pytest

from blocksnapd.cycle.dm_ioctl import Control, DeviceInfo, Target
from blocksnapd.cycle.dm_stack import find_stack, is_given_up, resume_forward, snapshot_numbers
from blocksnapd.errors import DeviceMapperError


class ModelControl:
    """Devices by name: suspended or not, a live and an inactive table each."""

    def __init__(self) -> None:
        self.devices: dict[str, tuple[bool, str, str]] = {}
        self.refuses = ""
        self.resumed: list[str] = []

    def add(self, name: str, *, suspended: bool = False, live: str = "", loaded: str = "") -> None:
        self.devices[name] = (suspended, live, loaded)

    def names(self) -> list[str]:
        return list(self.devices)

    def info(self, name: str) -> DeviceInfo | None:
        if name not in self.devices:
            return None
        suspended, live, loaded = self.devices[name]
        minor = list(self.devices).index(name)
        return DeviceInfo(
            name, "", 254, minor, suspended, bool(live), bool(loaded), False, 0, 0
        )  # fmt: skip

    def table(self, name: str, *, inactive: bool = False) -> list[Target] | None:
        if name not in self.devices:
            return None
        _suspended, live, loaded = self.devices[name]
        text = loaded if inactive else live
        kind, _, params = text.partition(" ")
        return [Target(0, 8, kind, params)] if text else []

    def resume(self, name: str) -> None:
        if name == self.refuses:
            raise DeviceMapperError(name)
        _, live, loaded = self.devices[name]
        self.devices[name] = (False, loaded or live, "")
        self.resumed.append(name)


def control_of(model: ModelControl) -> Control:
    return cast("Control", model)


@pytest.fixture
def killed() -> ModelControl:
    """What lvcreate leaves: 0 origin, 1 real without a table, 2 cow, 3 new, 4 old cow, 5 old."""
    model = ModelControl()
    model.add("vg-data", suspended=True, live="linear 98:0 0", loaded="snapshot-origin 254:1")
    model.add("vg-data-real", suspended=True, loaded="linear 98:0 0")
    model.add("vg-new-cow", live="linear 98:16 0")
    model.add("vg-new", loaded="snapshot 254:1 254:2 P 8")
    model.add("vg-old-cow", suspended=True, live="linear 98:16 99")
    model.add("vg-old", suspended=True, live="snapshot 254:1 254:4 P 8")
    model.add("vg-other", suspended=True, live="linear 98:0 7")
    return model


def test_bottom_up_and_the_origin_last(killed: ModelControl) -> None:
    resume_forward(control_of(killed), "vg-data")
    assert killed.resumed == ["vg-data-real", "vg-old-cow", "vg-new", "vg-old", "vg-data"]
    assert killed.devices["vg-data"] == (False, "snapshot-origin 254:1", "")
    assert killed.devices["vg-other"][0]  # nobody else's device is touched


def test_a_second_time_does_nothing(killed: ModelControl) -> None:
    resume_forward(control_of(killed), "vg-data")
    assert resume_forward(control_of(killed), "vg-data") == []


def test_a_snapshot_without_a_table_is_known_by_its_name(killed: ModelControl) -> None:
    killed.add("vg-named", suspended=True)
    assert "vg-named" not in [d.name for d in find_stack(control_of(killed), "vg-data").snapshots]
    stack = find_stack(control_of(killed), "vg-data", ("vg-named",))
    assert "vg-named" in [device.name for device in stack.snapshots]


def test_the_origin_is_resumed_even_when_something_below_refuses(killed: ModelControl) -> None:
    killed.refuses = "vg-new"
    assert resume_forward(control_of(killed), "vg-data")[-1] == "vg-data"


def test_an_origin_that_stays_suspended_is_an_error_with_the_way_out(killed: ModelControl) -> None:
    killed.refuses = "vg-data"
    with pytest.raises(DeviceMapperError, match="still suspended") as caught:
        resume_forward(control_of(killed), "vg-data")
    assert "dmsetup resume" in caught.value.hint
    assert caught.value.hint.index("vg-data-real") < caught.value.hint.index("vg-old ")


def test_no_devices_no_work() -> None:
    assert resume_forward(control_of(ModelControl()), "vg-data") == []


@pytest.mark.parametrize(
    ("params", "numbers"),
    [
        ("82352/507904 336", (82352 * 512, 507904 * 512)), ("Invalid", None), ("Overflow", None),
        ("Merge failed", None), ("Unknown", None), ("", None), ("1/2/3 4", None), ("-1/8 0", None),
    ],
)  # fmt: skip
def test_only_numbers_are_a_whole_snapshot(params: str, numbers: tuple[int, int] | None) -> None:
    assert snapshot_numbers([Target(0, 8, "snapshot", params)]) == numbers


@pytest.mark.parametrize(
    ("target", "is_lost"),
    [
        (Target(0, 8, "snapshot", "Invalid"), True),
        (Target(0, 8, "snapshot", "Overflow"), True),
        (Target(0, 8, "snapshot-merge", "Merge failed"), True),
        (Target(0, 8, "snapshot", "8/16 0"), False),
        (Target(0, 8, "linear", ""), False),  # lvremove is about to take it away
        (None, False),
    ],
)
def test_only_a_snapshot_can_be_given_up(target: Target | None, is_lost: bool) -> None:
    assert is_given_up([target] if target else None) == is_lost


def test_another_kind_of_device_is_no_snapshot() -> None:
    assert snapshot_numbers([Target(0, 8, "linear", "8/16 0")]) is None
    assert snapshot_numbers([]) is None
    assert snapshot_numbers(None) is None
