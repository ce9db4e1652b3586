"""Where COW space may lie: the decision, on recorded hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle import cow_place
from blocksnapd.errors import RefusedError
from tests.fakes.topology import RecordedHost

if TYPE_CHECKING:
    from pathlib import Path

UUID = "bwHGGl-p0t1-GdOl-p65b-pXhB-hrBz-7UAHiq"
OF_GROUP = "LVM-" + UUID.replace("-", "") + "CleQYZloQKK71thMKyy0abfKzCSah3lG"
OF_ANOTHER = "LVM-" + "x" * 64


@pytest.fixture
def host(tmp_path: Path) -> RecordedHost:
    host = RecordedHost(tmp_path)
    host.add("8:0", "sda")
    host.add("254:0", "dm-0", slaves=["sda"], dm=("vg-root", OF_GROUP))
    host.add("254:1", "dm-1", slaves=["sda"], dm=("other-data", OF_ANOTHER))
    host.add("8:16", "sdb")
    return host


def refused_below(host: RecordedHost, path: str) -> None:
    below = host.topology.below_file(path)
    cow_place.refuse_own_origin(host.topology, "vg", UUID, below, path)


def test_a_file_on_a_volume_of_its_own_group_is_refused(host: RecordedHost) -> None:
    host.mount("254:0", "/", "xfs", "/dev/mapper/vg-root")
    with pytest.raises(RefusedError, match="vg-root") as caught:
        refused_below(host, "/cow")
    assert caught.value.effect
    assert caught.value.hint


def test_so_is_one_that_gets_there_through_a_loop(host: RecordedHost) -> None:
    host.add("7:0", "loop0", file="/inner")
    host.mount("254:0", "/", "xfs", "/dev/mapper/vg-root")
    host.mount("7:0", "/snap", "ext4", "/dev/loop0")
    with pytest.raises(RefusedError):
        refused_below(host, "/snap/cow")


def test_a_file_on_another_disk_or_another_group_is_not(host: RecordedHost) -> None:
    host.mount("8:16", "/", "ext4", "/dev/sdb")
    host.mount("254:1", "/data", "ext4", "/dev/mapper/other-data")
    refused_below(host, "/cow")
    refused_below(host, "/data/cow")


@pytest.mark.parametrize("point", ["/", "/boot", "/usr"])
def test_a_file_for_the_group_that_boots_the_host_is_refused(
    host: RecordedHost, point: str
) -> None:
    host.mount("8:16", "/", "ext4", "/dev/sdb")
    host.mount("254:0", point, "xfs", "/dev/mapper/vg-root")
    assert point in cow_place.boot_points_on(host.topology, UUID)
    with pytest.raises(RefusedError, match="holds") as caught:
        cow_place.refuse_boot_group(host.topology, "vg", UUID)
    assert "would not start" in caught.value.effect


def test_a_file_for_a_group_of_data_is_not(host: RecordedHost) -> None:
    host.mount("8:16", "/", "ext4", "/dev/sdb")
    host.mount("254:0", "/srv", "xfs", "/dev/mapper/vg-root")
    cow_place.refuse_boot_group(host.topology, "vg", UUID)
    assert cow_place.boot_points_on(host.topology, UUID) == []
