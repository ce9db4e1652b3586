"""Signatures against disks that the real tools made."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.restore import signatures

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 320 << 20  # XFS wants 300 MB

MADE_BY = {
    "an XFS file system": ["mkfs.xfs", "-q"],
    "an ext2/3/4 file system": ["mkfs.ext4", "-q"],
    "swap space": ["mkswap"],
}


def find(disk: bytes) -> signatures.Signature | None:
    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(disk)
        return disk[offset : offset + length]

    return signatures.find(read, len(disk))


@pytest.mark.parametrize("name", MADE_BY)
def test_what_a_real_tool_made_is_recognised(name: str, tmp_path: Path) -> None:
    command = MADE_BY[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    path = tmp_path / "disk"
    with path.open("w+b") as file:
        file.truncate(SIZE)
        subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=60)

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        found = signatures.find(read, SIZE)
    assert found is not None
    assert (found.name, found.is_member) == (name, False)


@pytest.mark.parametrize("sector", range(4))
def test_a_physical_volume_is_a_member_wherever_its_label_is(sector: int) -> None:
    disk = bytearray(1 << 20)
    disk[sector * 512 : sector * 512 + 8] = b"LABELONE"
    disk[510:512] = b"\x55\xaa"  # a boot sector does not hide it
    found = find(bytes(disk))
    assert found is not None
    assert (found.name, found.is_member) == ("an LVM physical volume", True)


@pytest.mark.parametrize("size", [65536, 65536 + 512, 1 << 20, (1 << 20) + 3584])
def test_md_is_found_at_each_of_its_places(size: int) -> None:
    """The place at the end is the one of mdadm(8): 8 to 12 KiB before it, on a 4 KiB border."""
    from_end = (size - 8192) // 4096 * 4096
    for offset in (0, 4096, from_end):
        disk = bytearray(size)
        disk[offset : offset + 4] = struct.pack("<I", 0xA92B4EFC)
        found = find(bytes(disk))
        assert found is not None
        assert found.is_member


@given(st.binary(max_size=200_000))
def test_any_disk_gives_an_answer(disk: bytes) -> None:
    find(disk)


def test_zeros_hold_nothing() -> None:
    assert find(bytes(1 << 20)) is None
    assert find(b"") is None
