"""Writes over an image against an array of bytes, and what happens when the disk is full."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import HostError
from blocksnapd.export.disk import ImageDisk
from blocksnapd.export.overlay import BLOCK_SIZE, Overlay
from tests.export.serving import KIB, MIB, patchy
from tests.restore.memory_image import MemoryImage

SIZE = 40 * BLOCK_SIZE + 1500
CONTENT = patchy(SIZE // BLOCK_SIZE * BLOCK_SIZE, 3, piece=12 * KIB) + b"tail" * 375
edges = st.one_of(
    st.integers(0, SIZE),
    st.builds(lambda b, d: min(SIZE, max(0, b * BLOCK_SIZE + d)), st.integers(0, 41),
              st.sampled_from([-1, 0, 1, 511, 512])),
)  # fmt: skip
steps = st.lists(st.tuples(st.sampled_from(["write", "zero"]), edges, edges), max_size=12)


def overlay(directory=None, content=CONTENT, **options) -> Overlay:
    return Overlay(
        ImageDisk(MemoryImage(content)), str(directory or tempfile.gettempdir()), **options
    )


def read(disk: Overlay, start: int, end: int) -> bytes:
    data = bytearray(b"\xee" * (end - start))
    disk.read_into(start, memoryview(data))
    return bytes(data)


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 255), st.tuples(edges, edges))
def test_whatever_is_written_reads_back_and_nothing_else_changes(steps, seed, look):
    disk, model, dice = overlay(), bytearray(CONTENT), random.Random(seed)
    for what, one, other in steps:
        start, end = min(one, other), max(one, other)
        if what == "write":
            data = dice.randbytes(end - start)
            disk.write(start, data)
        else:
            data = bytes(end - start)
            disk.zero(start, end - start)
        model[start:end] = data
    assert read(disk, 0, SIZE) == model
    start, end = min(look), max(look)
    assert read(disk, start, end) == model[start:end]
    check_extents(disk, model, start, end)
    disk.close()


def check_extents(disk: Overlay, model: bytearray, start: int, end: int) -> None:
    """Outside the extents everything is zero; they stay within the range."""
    found = disk.data_extents(start, end)
    at = start
    for low, high in zip(found.starts.tolist(), found.ends.tolist(), strict=True):
        assert start <= at <= low < high <= end
        assert not any(model[at:low])
        at = high
    assert not any(model[at:end])


@pytest.mark.parametrize("can_punch", [True, False])
def test_zeroing_much_at_once_writes_nothing(tmp_path, monkeypatch, can_punch):
    if not can_punch:
        monkeypatch.setattr("blocksnapd.export.overlay._punch", lambda *_: False)
    disk = overlay(tmp_path, bytes(64 * MIB))
    disk.write(32 * MIB, b"x" * 8192)
    used = os.fstat(disk._file.fileno()).st_blocks
    disk.zero(0, 64 * MIB)
    assert os.fstat(disk._file.fileno()).st_blocks <= used
    assert read(disk, 32 * MIB - 5, 32 * MIB + 9000) == bytes(9005)
    disk.close()


def test_the_file_has_no_name_and_takes_only_what_is_written(tmp_path):
    disk = overlay(tmp_path, bytes(256 * MIB))
    disk.write(200 * MIB, b"x" * 4096)
    assert os.listdir(tmp_path) == []
    assert os.fstat(disk._file.fileno()).st_blocks * 512 < MIB
    disk.close()


def test_a_disk_that_gets_full_is_left_its_reserve(tmp_path):
    disk = overlay(tmp_path, reserve=1 << 60)
    with pytest.raises(OSError) as caught:
        disk.write(0, b"x")
    assert caught.value.errno == errno.ENOSPC
    assert read(disk, 0, SIZE) == CONTENT
    disk.close()


def test_a_directory_that_is_none_is_told(tmp_path):
    with pytest.raises(HostError) as caught:
        overlay(tmp_path / "gone")
    assert "TMPDIR" in caught.value.hint


def test_writers_side_by_side_do_not_lose_each_others_halves(tmp_path):
    """Neighbours within one block: each copies up what the other writes."""
    disk = overlay(tmp_path, b"\xaa" * (256 * BLOCK_SIZE))

    def work(lane: int) -> None:
        for block in range(256):
            disk.write(block * BLOCK_SIZE + lane * 1024, bytes([lane]) * 1024)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(disk, 0, disk.size) == b"".join(bytes([n]) * 1024 for n in range(4)) * 256
    disk.close()
