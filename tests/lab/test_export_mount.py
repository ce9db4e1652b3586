"""Points exported over NBD and mounted by a real kernel: file systems that a crash interrupted."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from blocksnapd.service.drill_steps import check_file_system
from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.export.keeping import keep
from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from tests.conftest import MakeMachine
    from tests.lab.machine import Event, Machine, Result

MIB = 1 << 20
DISKS = {"xfs": 320 * MIB, "ext4": 48 * MIB}

pytestmark = pytest.mark.lab


def test_the_kernel_mounts_what_a_crash_left(make_machine: MakeMachine) -> None:
    """Byte for byte the same device; the log is replayed into a layer that is thrown away."""
    machine = make_machine(list(DISKS.values()))
    crashed = machine.run(GUEST_DIR / "crashed_disks.py", blank=True)
    check_drills(machine)
    made = init_repository(f"{machine.out}/repository", f"{machine.out}/keys")
    repository = Repository.open(f"{machine.out}/repository", restore_key=made.restore_key)
    points = [
        f"{kind}={keep(repository, kind, str(disk)).facts.point_id}"
        for kind, disk in zip(DISKS, machine.disks, strict=True)
    ]
    place = "/run/lab/out"
    found = machine.run(
        GUEST_DIR / "export_mount.py", f"{place}/repository", f"{place}/keys/restore.key", *points
    )
    for kind in DISKS:
        check(kind, of_kind(crashed, kind)["crashed"], of_kind(found, kind))


def check_drills(machine: Machine) -> None:
    """What a drill says: ext4's journal is replayed; XFS without its log is not called broken."""
    found = {}
    for kind, disk in zip(DISKS, machine.disks, strict=True):
        copy = f"{disk}.drilled"
        shutil.copyfile(disk, copy)
        found[kind] = asyncio.run(check_file_system(copy, 120.0))
        os.unlink(copy)
    assert found["ext4"]["result"] == "success", found["ext4"]
    assert found["xfs"]["result"] in {"warning", "success"}, found["xfs"]
    if found["xfs"]["result"] == "warning":
        assert "only a mount replays" in found["xfs"]["found"][0]


def of_kind(result: Result, kind: str) -> dict[str, Event]:
    return {event["event"]: event for event in result.events if event.get("kind") == kind}


def check(kind: str, crashed: Event, found: dict[str, Event]) -> None:
    wanted = crashed["digests"]
    assert len(wanted) == 20
    assert found["device"]["read_only"] == "1"
    assert found["device"]["image"] == crashed["image"]
    assert found["log"]["said"], "it has a log to replay, so it does not mount read-only"
    assert found["seen"]["files"] < 20 or kind == "ext4", "part of it is in the log alone"
    assert found["replayed"]["digests"] == wanted
    assert found["kept"]["same"]
    said = found["checked"]["said"]
    assert "error" not in said.lower()
    assert found["thrown"]["digests"] == wanted, "what the first client wrote is gone"
