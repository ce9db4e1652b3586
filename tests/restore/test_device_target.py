"""A device under restoration, on real loop devices: what others would see of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import ChecksumError
from blocksnapd.model import Extents
from blocksnapd.restore import device_target
from blocksnapd.restore.device_target import HEAD_SIZE, DeviceTarget
from blocksnapd.restore.gaps import gaps_of
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3 * MIB
OLD = b"\xaa" * SIZE


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_device(tmp_path_factory.mktemp("device"), SIZE) as path:
        yield path


def read(device: str) -> bytes:
    with open(device, "rb") as file:
        return file.read()


def write(device: str, content: bytes) -> None:
    with open(device, "wb") as file:
        file.write(content)


@pytest.mark.parametrize(
    "size", [512, HEAD_SIZE - 700, HEAD_SIZE, HEAD_SIZE + 4096, SIZE - 1, SIZE]
)
@pytest.mark.parametrize("can_zero_out", [True, False])
def test_nothing_old_shines_through_and_the_rest_is_left_alone(
    device: str, size: int, can_zero_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content at both ends and in the middle, everything between was something else before."""
    if not can_zero_out:
        monkeypatch.setattr(device_target, "_BLKZEROOUT", 0x12FF)  # an ioctl no device knows
    content = bytearray(size)
    for at in (0, size // 2, size - 1):
        content[at] = 0x77
    image = MemoryImage(bytes(content))
    write(device, OLD)
    target = DeviceTarget(device)
    gaps = list(gaps_of(image, 1 << 20))
    cleared: list[int] = []
    target.clear(size, gaps, cleared.append)
    assert sum(cleared) == sum(part.size for part in gaps)
    for blocks, data in image.pieces():
        for row, block in enumerate(blocks.tolist()):
            part = data[row * 4096 : (row + 1) * 4096]
            target.write(block * 4096, part[: size - block * 4096])
    target.sync()
    assert target.ranges() == [(0, size)]
    view = memoryview(bytearray(size))
    with target.reader() as reader:
        reader.read_into(0, view)
    assert view == content, "what is held back is read as if it were there"
    assert read(device)[:HEAD_SIZE] == bytes(min(size, HEAD_SIZE)) + OLD[size:HEAD_SIZE]
    target.finish()
    assert read(device) == content + OLD[size:]


def test_of_a_new_volume_nothing_of_its_disk_s_past_is_left(device: str) -> None:
    write(device, OLD)
    target = DeviceTarget(device, is_new=True)
    size = SIZE - 70_000
    target.clear(size, [Extents.whole(size)], lambda _: None)
    target.write(2 * MIB, memoryview(b"x" * 4096))
    target.finish()
    assert read(device) == (bytes(2 * MIB) + b"x" * 4096).ljust(SIZE, b"\0")


def test_a_restore_given_up_leaves_a_blank_beginning(device: str) -> None:
    write(device, OLD)
    target = DeviceTarget(device)
    target.clear(SIZE, [Extents.whole(0)], lambda _: None)
    target.write(0, memoryview(b"x" * SIZE))
    target.abandon()
    target.abandon()
    assert read(device) == bytes(HEAD_SIZE) + b"x" * (SIZE - HEAD_SIZE)
    assert "holds an unfinished image; its beginning is blank" in target.leftover


def test_a_restore_given_up_before_it_began_leaves_everything(device: str) -> None:
    write(device, OLD)
    target = DeviceTarget(device)
    target.abandon()
    assert target.leftover == f"{device} is as it was before."
    assert read(device) == OLD


def test_a_device_that_loses_its_first_bytes_is_caught_and_stays_blank(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write below the device, between writing its beginning and reading it back."""
    target = DeviceTarget(device)
    target.clear(SIZE, [Extents.whole(0)], lambda _: None)
    target.write(0, memoryview(b"x" * SIZE))
    with open(f"/sys/class/block/{os.path.basename(device)}/loop/backing_file") as file:
        backing = file.read().strip()
    real_sync = target.sync

    def sync_and_lose() -> None:
        real_sync()
        with open(backing, "r+b") as below:
            below.write(b"lost")

    monkeypatch.setattr(target, "sync", sync_and_lose)
    with pytest.raises(ChecksumError, match="its first bytes"):
        target.finish()
    monkeypatch.undo()
    target.abandon()
    assert read(device)[:HEAD_SIZE] == bytes(HEAD_SIZE)


@given(offset=st.integers(0, SIZE), length=st.integers(0, SIZE))
@settings(max_examples=30, deadline=None)
def test_a_write_lands_where_it_belongs_across_the_held_back_border(
    device: str, offset: int, length: int
) -> None:
    data = os.urandom(min(length, SIZE - offset))
    target = DeviceTarget(device)
    target.clear(SIZE, [Extents.whole(SIZE)], lambda _: None)
    target.write(offset, memoryview(data))
    target.finish()
    assert read(device) == data.rjust(offset + len(data), b"\0").ljust(SIZE, b"\0")
