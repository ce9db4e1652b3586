"""When a report may be used again, on a model of the kernel's devices.

That a cycle on a real one needs but one report shows in the lab (test_lvm_source.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from blocksnapd.cycle import lvm_text
from blocksnapd.cycle.dm_ioctl import Control, DeviceInfo, Target
from blocksnapd.cycle.last_report import is_shown, shown_row
from blocksnapd.cycle.lvm_text import VolumeName
from tests.cycle.test_lvm_text import GROUP, ORIGIN, SNAPSHOT, full_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.cycle.lvm_text import LogicalVolume

VOLUME = VolumeName("vg", "root")
SECTORS = int(ORIGIN["lv_size"]) // 512


class Kernel:
    """The origin with one snapshot, as the report tells; a test changes what it wants."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceInfo] = {}
        self.tables = {
            "vg-root": Target(0, SECTORS, "snapshot-origin", "254:1"),
            "vg-root-real": Target(0, SECTORS, "linear", "98:0 2048"),
        }
        self.statuses: dict[str, str] = {}
        self.add("vg-root", ORIGIN["lv_uuid"])
        self.add("vg-root-real", ORIGIN["lv_uuid"], "-real")
        self.add("vg-bs_p1-cow", SNAPSHOT["lv_uuid"], "-cow")
        self.add_snapshot("vg-bs_p1", SNAPSHOT["lv_uuid"])

    def add(self, name: str, uuid: str, layer: str = "") -> None:
        full = f"LVM-{GROUP['vg_uuid']}{uuid}".replace("-", "").replace("LVM", "LVM-") + layer
        minor = len(self.devices)
        self.devices[name] = DeviceInfo(
            name, full, 254, minor, False, True, False, False, 1, 0
        )  # fmt: skip

    def add_snapshot(self, name: str, uuid: str) -> None:
        self.add(name, uuid)
        self.tables[name] = Target(0, SECTORS, "snapshot", "254:1 254:2 P 8")
        self.statuses[name] = "16/663552 16"

    def names(self) -> list[str]:
        return list(self.devices)

    def info(self, name: str) -> DeviceInfo | None:
        return self.devices.get(name)

    def table(self, name: str, *, inactive: bool = False) -> list[Target] | None:
        return [self.tables[name]] if name in self.tables and not inactive else []

    def status(self, name: str) -> list[Target] | None:
        return [Target(0, SECTORS, "snapshot", self.statuses[name])]


def shown(kernel: Kernel, *rows: dict[str, str]) -> bool:
    report = lvm_text.parse_group(full_report(*rows))
    return is_shown(cast("Control", kernel), VOLUME, report)


def test_what_the_kernel_shows_holds() -> None:
    assert shown(Kernel(), ORIGIN, SNAPSHOT)


def test_an_origin_without_snapshots() -> None:
    kernel = Kernel()
    for name in ("vg-root-real", "vg-bs_p1", "vg-bs_p1-cow"):
        del kernel.devices[name]
    assert shown(kernel, ORIGIN)
    assert not shown(kernel, ORIGIN, SNAPSHOT)  # removed
    assert not shown(kernel)  # never told of


def given_up(kernel: Kernel) -> None:
    kernel.statuses["vg-bs_p1"] = "Invalid"


def somebody_s_snapshot(kernel: Kernel) -> None:
    kernel.add_snapshot("vg-theirs", "3")


def suspended(kernel: Kernel) -> None:
    kernel.devices["vg-root-real"] = kernel.devices["vg-root-real"]._replace(suspended=True)


def made_anew(kernel: Kernel) -> None:
    kernel.add("vg-root", SNAPSHOT["lv_uuid"])


def another_number(kernel: Kernel) -> None:
    kernel.devices["vg-bs_p1"] = kernel.devices["vg-bs_p1"]._replace(minor=77)


def resized(kernel: Kernel) -> None:
    kernel.tables["vg-root"] = Target(0, SECTORS + 8192, "snapshot-origin", "254:1")


@pytest.mark.parametrize(
    "change", [given_up, somebody_s_snapshot, suspended, made_anew, another_number, resized]
)
def test_on_any_doubt_it_does_not_hold(change: Callable[[Kernel], None]) -> None:
    kernel = Kernel()
    change(kernel)
    assert not shown(kernel, ORIGIN, SNAPSHOT)


@pytest.mark.parametrize("attr", ["-wi-a-----", "-wi-------"])
def test_what_an_interrupted_command_left_does_not_hold(attr: str) -> None:
    left = {**SNAPSHOT, "lv_name": "bs_p2", "lv_attr": attr, "origin": ""}
    assert not shown(Kernel(), ORIGIN, SNAPSHOT, left)


def made(kernel: Kernel) -> LogicalVolume | None:
    before = lvm_text.parse_group(full_report(ORIGIN))
    tags = lvm_text.snapshot_tags(ORIGIN["lv_uuid"], "p1")
    return shown_row(cast("Control", kernel), VOLUME, before, "bs_p1", tags)


def test_what_was_made_is_shown_as_lvm2_would_report_it() -> None:
    row = made(Kernel())
    reported = lvm_text.parse_group(full_report(SNAPSHOT)).volumes[0]
    assert row == replace(reported, uuid=reported.uuid.replace("-", ""))
    assert shown(Kernel(), ORIGIN, {**SNAPSHOT, "lv_uuid": row.uuid})


def gone(kernel: Kernel) -> None:
    del kernel.devices["vg-bs_p1"]


def of_no_table(kernel: Kernel) -> None:
    kernel.devices["vg-bs_p1"] = kernel.devices["vg-bs_p1"]._replace(live=False)


def of_another_group(kernel: Kernel) -> None:
    device = kernel.devices["vg-bs_p1"]
    kernel.devices["vg-bs_p1"] = device._replace(uuid=device.uuid.replace("LVM-", "LVM-x"))


def of_another_origin(kernel: Kernel) -> None:
    kernel.tables["vg-bs_p1"] = Target(0, SECTORS, "snapshot", "254:9 254:2 P 8")


@pytest.mark.parametrize(
    "change", [given_up, gone, of_no_table, of_another_group, of_another_origin]
)
def test_what_is_not_whole_is_not_taken_for_made(change: Callable[[Kernel], None]) -> None:
    kernel = Kernel()
    change(kernel)
    assert made(kernel) is None
