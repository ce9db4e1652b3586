"""Device-mapper ioctls: the replies' bytes; the kernel's own answers are the lab's."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle import dm_ioctl
from blocksnapd.cycle.dm_ioctl import Control
from blocksnapd.errors import DeviceMapperError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_kernel_without_device_mapper_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceMapperError, match="no device-mapper here") as caught:
        Control(str(tmp_path / "control"))
    assert "modprobe" in caught.value.hint
    assert "scan" in caught.value.hint


def test_what_is_no_control_node_is_told(tmp_path: Path) -> None:
    (tmp_path / "control").touch()
    with Control(str(tmp_path / "control")) as control, pytest.raises(DeviceMapperError):
        control.info("vg-data")


def test_a_name_too_long_for_the_kernel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control").touch()
    with Control(str(tmp_path / "control")) as control, pytest.raises(DeviceMapperError):
        control.info("x" * 128)


def reply(*, dev: int = 0, flags: int = 0, targets: int = 0, data: bytes = b"") -> bytearray:
    head = struct.pack(
        "=3I I I I i I I I Q 128s 129s 7s", 4, 47, 0, 312 + len(data), 312, targets, 2, flags, 5, 0,
        dev, b"vg-data", b"LVM-x", b"",
    )  # fmt: skip
    return bytearray(head + data)


def test_a_status_reply() -> None:
    # huge_encode_dev(254, 300): the low byte of the minor, the major, the rest of the minor
    info = dm_ioctl._device_info(reply(dev=0x10FE2C, flags=1 << 1 | 1 << 5))
    assert (info.name, info.uuid, info.devno) == ("vg-data", "LVM-x", "254:300")
    assert (info.suspended, info.live, info.inactive) == (True, True, False)
    assert (info.open_count, info.event_nr) == (2, 5)


@pytest.mark.parametrize(("major", "minor"), [(254, 0), (254, 255), (253, 256), (4095, 1 << 19)])
def test_device_numbers_are_the_kernels(major: int, minor: int) -> None:
    encoded = os.makedev(major, minor)  # the same layout as long as the minor has 20 bits
    assert dm_ioctl._split_devno(encoded & 0xFFFFFFFF) == (major, minor)


def test_a_table_of_several_lines() -> None:
    def spec(start: int, step: int, text: bytes) -> bytes:
        packed = struct.pack("=QQiI16s", start, 8, 0, step, b"linear") + text + b"\0"
        return packed.ljust(step - start * 0, b"\0")

    first = spec(0, 56, b"98:0 2048")
    targets = dm_ioctl._targets(reply(targets=2, data=first + spec(8, 112, b"98:0 9")))
    assert [t.params for t in targets] == ["98:0 2048", "98:0 9"]
    assert targets[1].start_sector == 8


def test_lists_of_names() -> None:
    assert dm_ioctl._names(reply(data=bytes(12))) == []
    entry = struct.pack("=QI", 5, 24) + b"a-b".ljust(12, b"\0")
    last = struct.pack("=QI", 6, 0) + b"c-d\0"
    assert dm_ioctl._names(reply(data=entry + last)) == ["a-b", "c-d"]


def test_lists_of_kinds() -> None:
    entry = struct.pack("=4I", 24, 1, 9, 0) + b"linear\0\0"
    last = struct.pack("=4I", 0, 1, 16, 0) + b"snapshot\0"
    assert dm_ioctl._kinds(reply(data=entry + last)) == ["linear", "snapshot"]


def test_only_a_stale_node_is_unlinked(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "x")
    (tmp_path / "file").touch()
    for name in ("link", "file", "absent"):
        dm_ioctl._remove_stale_node(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]
