"""``blocksnapctl mount`` on a real kernel: logs are replayed, and nothing is ever left behind."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from blocksnapd.store.init import init_repository
from blocksnapd.store.repository import Repository
from tests.export.keeping import keep
from tests.files.corpus import FileImage, open_files
from tests.lab.machine import GUEST_DIR

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeMachine
    from tests.lab.machine import Event

MIB = 1 << 20
DISKS = {"xfs": 320 * MIB, "ext4": 48 * MIB}

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("extent", "mounts", "ends"),
    [("short", 1, 2), pytest.param("long", 5, 8, marks=pytest.mark.long)],
)
def test_what_a_crash_left_is_mounted_and_unmounted(
    make_machine: MakeMachine, extent: str, mounts: int, ends: int
) -> None:
    machine = make_machine(list(DISKS.values()))
    crashed = machine.run(GUEST_DIR / "crashed_disks.py", blank=True)
    wanted = {e["kind"]: e["digests"] for e in crashed.events if e["event"] == "crashed"}
    wanted["parted"] = wanted["ext4"]
    for disk in machine.disks:  # what reads files without a kernel sees that there is a log
        assert "not replayed" in open_files(FileImage(disk)).notes[0]
    made = init_repository(f"{machine.out}/repository", f"{machine.out}/keys")
    repository = Repository.open(f"{machine.out}/repository", restore_key=made.restore_key)
    disks = dict(zip(DISKS, machine.disks, strict=True))
    disks["parted"] = parted(disks["ext4"], machine.folder / "parted.img")
    points = [
        f"{kind}={keep(repository, kind, str(disk)).facts.point_id}"
        for kind, disk in disks.items()
    ]  # fmt: skip
    place = "/run/lab/out"
    told = machine.run(
        GUEST_DIR / "mounting.py", extent,
        f"{place}/repository", f"{place}/keys/restore.key", *points,
    ).events  # fmt: skip
    for event in named(told, "mounted"):
        assert (event["code"], event["digests"]) == (0, wanted[event["kind"]]), event
    assert len(named(told, "mounted")) == mounts
    (refused,) = named(told, "refused")
    assert "Read-only file system" in refused["said"]
    (listed,) = named(told, "listed")
    (row,) = json.loads(listed["said"])["mounts"]
    assert (row["volume"], row["writable"], row["device"][:8]) == ("xfs", False, "/dev/nbd")
    (busy,) = named(told, "busy")
    assert (busy["result"][0], "in use" in busy["result"][1]) == (75, True)
    for event in named(told, "unmounted") + named(told, "killed"):
        assert event["result"][0] == 0, event
    for event in named(told, "thrown"):
        assert event["digests"] == wanted[event["kind"]]
        assert event["count"] == len(event["digests"]) + 1
    for event in named(told, "left"):
        nothing = {"devices": [], "records": [], "mounts": [], "loops": ""}
        assert {key: event[key] for key in nothing} == nothing, event
    assert len(named(told, "left")) == ends


def named(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def parted(disk: Path, to: Path) -> Path:
    """Make a disk with a partition table of MS-DOS whose second partition is ``disk``."""
    size = disk.stat().st_size
    entry = struct.Struct("<8B2I")
    table = entry.pack(0, 0, 0, 0, 0x83, 0, 0, 0, 2048, 2048)
    table += entry.pack(0, 0, 0, 0, 0x83, 0, 0, 0, 4096, size // 512)
    with to.open("wb") as file:
        file.write((bytes(446) + table).ljust(510, b"\0") + b"\x55\xaa")
        file.seek(2 * MIB)
        file.write(disk.read_bytes())
        file.truncate(2 * MIB + size + MIB)
    return to
