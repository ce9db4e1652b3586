"""What lvm2 2.03.16 says, and the error it becomes; the words were recorded in the lab."""

from __future__ import annotations

import pytest

from blocksnapd.cycle.lvm_errors import explain, not_installed
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    DeviceMapperError,
    LvmError,
    NotAllowedError,
    SpaceError,
    VolumeError,
)

SAID: list[tuple[str, type[BlocksnapError]]] = [
    ('Volume group "nosuch" not found; Cannot process volume group nosuch', VolumeError),
    ('Failed to find logical volume "vg/nosuch"', VolumeError),
    ('Volume group "vg" has insufficient free space (4 extents): 81 required.', SpaceError),
    ("Insufficient free space: 81 extents needed, but only 2 available", SpaceError),
    ("No specified PVs have space available.", SpaceError),
    (("/dev/mapper/control: open failed: No such device; Failure to communicate with kernel"
     " device-mapper driver."), DeviceMapperError),
    (("modprobe: FATAL: Module dm-snapshot not found; snapshot: Required device-mapper target(s)"
     " not detected in your kernel."), DeviceMapperError),
    ("/dev/mapper/control: open failed: Permission denied", NotAllowedError),
    (("WARNING: Couldn't find device with uuid fW7uIi. ; Cannot change VG vg while PVs are"
     " missing."), VolumeError),
    ("Refusing activation of partial LV vg/root.", VolumeError),
    (("/run/lock/lvm/V_vg:aux: open failed: Resource temporarily unavailable; Can't get lock for"
     " vg"), BusyError),
    (("device-mapper: suspend ioctl on  (254:0) failed: Device or resource busy; Failed to suspend"
     " logical volume vg/root."), BusyError),
    ("Logical volume vg/s1 in use.", BusyError),
    ("Something nobody has seen before", LvmError),
    ("", LvmError),
]  # fmt: skip


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_lvm2s_words_become_an_error_with_cause_consequence_and_next_step(
    said: str, kind: type[BlocksnapError]
) -> None:
    error = explain(["lvcreate"], 5, said)
    assert type(error) is kind
    assert said[:40] in error.message
    assert error.effect
    assert error.hint


def test_a_signal_is_told_as_one() -> None:
    assert "killed by signal 9" in explain(["lvcreate"], -9, "").message


def test_endless_words_are_cut() -> None:
    assert len(explain(["lvs"], 5, "x" * 100_000).message) < 1000


def test_without_lvm2() -> None:
    error = not_installed("lvs")
    assert "lvm2 is not installed" in error.message
    assert "apt install lvm2" in error.hint
