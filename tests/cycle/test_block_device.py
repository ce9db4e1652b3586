"""Topology, read from trees as sysfs and /proc show them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.block_device import (
    Topology,
    device_number,
    parse_mountinfo,
    sync_file_systems,
)
from tests.fakes.topology import RecordedHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> RecordedHost:
    """A disk with a partition, LVM on it, a loop on a file of the LV, another disk."""
    host = RecordedHost(tmp_path)
    host.add("8:0", "sda")
    host.add("8:1", "sda1", disk="sda")
    host.add("254:0", "dm-0", slaves=["sda1"], dm=("vg-data", "LVM-aaaa"))
    host.add("8:16", "sdb")
    host.add("7:0", "loop0", file="/srv/cow")
    host.mount("8:16", "/", "ext4", "/dev/sdb")
    host.mount("254:0", "/srv", "xfs", "/dev/mapper/vg-data")
    return host


def test_below_goes_through_loops_file_systems_volumes_and_partitions(host: RecordedHost) -> None:
    assert host.topology.below("7:0") == {"7:0", "254:0", "8:1", "8:0"}
    assert host.topology.below("8:16") == {"8:16"}


def test_a_file_that_does_not_exist_yet_lies_where_it_will(host: RecordedHost) -> None:
    assert host.topology.below_file("/srv/new/file") >= {"254:0", "8:1", "8:0"}


def test_above_finds_partitions_holders_and_where_they_are_mounted(host: RecordedHost) -> None:
    assert host.topology.above("8:0") == {"8:0", "8:1", "254:0"}
    assert host.topology.mount_points("8:0") == ["/srv"]


def test_names_and_loops(host: RecordedHost) -> None:
    topology = host.topology
    assert topology.name("254:0") == "dm-0"
    assert topology.dm_name("254:0") == "vg-data"
    assert topology.dm_uuid("8:0") == ""
    assert topology.loops_on("/srv/cow") == ["7:0"]
    assert topology.loop_is_direct("7:0")
    assert topology.logical_block_size("8:1") == 512


def test_a_loop_on_its_own_file_system_ends(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path)
    host.add("7:0", "loop0", file="/a/file")
    host.mount("7:0", "/", "ext4", "/dev/loop0")
    assert host.topology.below("7:0") == {"7:0"}


def test_a_root_overlay_whose_upper_directory_is_not_to_be_seen_ends(tmp_path: Path) -> None:
    """Live systems and containers: its path was that of another root."""
    host = RecordedHost(tmp_path)
    host.mount("0:30", "/", "overlay", "overlay", "rw,lowerdir=/,upperdir=/gone/upper")
    assert host.topology.below_file("/srv/file") == set()
    host.mount("0:31", "/a", "overlay", "overlay", "rw,lowerdir=/,upperdir=/gone/a")
    host.mount("0:32", "/gone", "overlay", "overlay", "rw,lowerdir=/,upperdir=/a/upper")
    assert host.topology.below_file("/a/file") == set()


def test_the_innermost_and_newest_mount_counts(host: RecordedHost) -> None:
    host.mount("8:0", "/srv", "ext4", "/dev/sda")
    mount = host.topology.mount_of("/srv/x")
    assert mount is not None
    assert mount.source == "/dev/sda"
    assert host.topology.mount_of("/srvx") is not None


def test_mountinfo_with_odd_names_and_odd_lines() -> None:
    text = (
        "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/r\\134t rw,errors=continue\n"
        "nonsense\n"
        "1 2 3:4 / /x rw - tmpfs none\n"
    )
    first, second = parse_mountinfo(text)
    assert (first.devno, first.point, first.source) == ("98:0", "/a b", "/dev/r\\t")
    assert (second.point, second.options) == ("/x", "")


def test_this_host_can_be_asked() -> None:
    topology = Topology()
    assert topology.mount_of("/proc/self") is not None
    assert isinstance(topology.below_file("/"), set)
    assert topology.holders("1:999999") == []


def test_sync_of_a_real_file_system_and_of_one_that_is_gone(tmp_path: Path) -> None:
    sync_file_systems([str(tmp_path), str(tmp_path / "gone")])


def test_a_device_number_is_a_block_devices(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        device_number(str(tmp_path))
    with pytest.raises(OSError):
        device_number(os.fspath(tmp_path / "gone"))
