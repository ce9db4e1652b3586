"""The reader of COW devices, on real files. The lab proves it on live block devices."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.errors import (
    BlocksnapError,
    CowFormatError,
    CowInvalidError,
    DeviceMapperError,
    HostError,
    NotAllowedError,
    VolumeError,
)
from blocksnapd.parse import cow_device, cow_format
from blocksnapd.parse.cow_device import CowDevice
from tests.fakes import cow_images
from tests.fakes.cow_images import CowImage, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocksnapd.ports import CowReader, Exceptions

C = 4096
E = C // 16


def content(chunk: int) -> bytes:
    """Return what origin chunk ``chunk`` held: different in every byte's neighbourhood."""
    return np.random.default_rng(chunk).bytes(C)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CowImage, cow_images.U64]:
    """Return a COW file of 600 exceptions in scattered order, with data and leftovers."""
    old = np.random.default_rng(5).permutation(1000)[:600].astype(np.uint64)
    image = build(old, chunk_size=C, leftovers=1, data=content)
    path = tmp_path_factory.mktemp("cow") / "image"
    image.save(path)
    return str(path), image, old


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


# --- header and table ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", cow_images.CHUNK_SIZES)
def test_table_of_a_file(tmp_path: Path, chunk_size: int) -> None:
    """Several areas, so that the stride is used; the file is sparse."""
    count = 2 * (chunk_size // 16) + 3
    old = np.arange(count, dtype=np.uint64)[::-1].copy()
    build(old, chunk_size=chunk_size).save(tmp_path / "cow")
    with CowDevice(str(tmp_path / "cow")) as device:
        assert device.header() == cow_format.Header(chunk_size)
        table = device.table(origin_size=count * chunk_size)
        assert device.size == cow_format.bytes_needed(count, chunk_size)
    assert np.array_equal(table.old, old)


def test_it_is_the_reader_that_sources_hand_out(
    saved: tuple[str, CowImage, cow_images.U64],
) -> None:
    """The type checker proves the port; this proves the calls."""
    path, image, old = saved
    reader: CowReader = CowDevice(path)
    try:
        reader.check_valid()
        entries: Exceptions = reader.table(origin_size=1000 * C)
        view = memoryview(bytearray(512))
        reader.read_into(0, view)
    finally:
        reader.close()
    assert entries.chunk_size == C
    assert len(entries.old) == len(entries.new) == len(old)
    assert bytes(view) == image.read(0, 512)


def test_the_table_outlives_the_device(saved: tuple[str, CowImage, cow_images.U64]) -> None:
    path, _, old = saved
    with CowDevice(path) as device:
        first = device.table(origin_size=1000 * C)
        second = device.table(origin_size=1000 * C)
    assert np.array_equal(first.old, old)
    assert np.array_equal(second.old, old)


def test_validity_is_read_afresh(tmp_path: Path) -> None:
    """The kernel writes valid := 0 under an open device; both looks after it see that."""
    path = tmp_path / "cow"
    build(np.arange(9, dtype=np.uint64), chunk_size=C).save(path)
    with CowDevice(str(path)) as device:
        device.check_valid()
        with open(path, "r+b") as kernel:
            kernel.write(cow_format.Header(C, valid=False).pack())
        with pytest.raises(CowInvalidError):
            device.check_valid()
        with pytest.raises(CowInvalidError):
            device.table(origin_size=9 * C)
        assert not device.header().valid


class InvalidatedWhileReading(CowDevice):
    """Between two reads of the table, the kernel gives the snapshot up."""

    def _read_exact(self, offset: int, view: memoryview, wanted: int) -> None:
        super()._read_exact(offset, view, wanted)
        if offset > 0:
            with open(self.path, "r+b") as kernel:
                kernel.write(cow_format.Header(C, valid=False).pack())


def test_a_snapshot_lost_during_the_reading_gives_no_table(tmp_path: Path) -> None:
    build(np.arange(9, dtype=np.uint64), chunk_size=C).save(tmp_path / "cow")
    with (
        InvalidatedWhileReading(str(tmp_path / "cow")) as device,
        pytest.raises(CowInvalidError),
    ):
        device.table(origin_size=9 * C)


class GrowingWhileRead(CowDevice):
    """Before each read the kernel adds exceptions: area n + 1 is zeroed, then area n filled."""

    def __init__(self, path: str, image: CowImage) -> None:
        super().__init__(path)
        self.image = image

    def _read_exact(self, offset: int, view: memoryview, wanted: int) -> None:
        until = min(self.image.entries + E, 20 * E)
        for index in range(self.image.entries, until):
            if (index + 1) % E == 0:
                nothing = np.empty(0, np.uint64)
                cow_images.write_area(self.image, (index + 1) // E, nothing, nothing)
            new = cow_format.data_chunk(index, C)
            cow_images.set_entry(self.image, index, old=10_000 + index, new=new)
        self.image.entries = until
        self.image.save(self.path)
        super()._read_exact(offset, view, wanted)


def test_a_table_that_grows_while_it_is_read(tmp_path: Path) -> None:
    """Areas are read in order, so the leftovers (chunks from 0) are never taken for entries."""
    size = cow_format.bytes_needed(64 * E, C)
    image = build(np.empty(0, np.uint64), chunk_size=C, leftovers=40, size=size)
    image.save(tmp_path / "cow")
    with GrowingWhileRead(str(tmp_path / "cow"), image) as device:
        table = device.table(origin_size=1 << 40)
    assert E <= len(table) <= 20 * E
    assert np.array_equal(table.old, np.arange(len(table), dtype=np.uint64) + np.uint64(10_000))


# --- saved content ---------------------------------------------------------------------------


@given(
    st.one_of(st.integers(0, 40_000), st.integers(0, 600).map(lambda n: n * 512)),
    st.one_of(st.integers(0, 9000), st.sampled_from([0, 512, 4096, 8192, 1 << 20])),
    st.integers(0, 1),
)
def test_any_piece_is_the_files(
    saved: tuple[str, CowImage, cow_images.U64], offset: int, length: int, shift: int
) -> None:
    """Aligned or not, in memory aligned or not: the same bytes as a plain read."""
    path, image, _ = saved
    length = min(length, image.size - offset)
    target = mmap.mmap(-1, length + shift + 1)
    view = memoryview(target)[shift : shift + length]
    with CowDevice(path) as device:
        device.read_into(offset, view)
    assert bytes(view) == image.read(offset, length)


def test_pieces_larger_than_the_buffer(saved: tuple[str, CowImage, cow_images.U64]) -> None:
    path, image, _ = saved
    target = bytearray(image.size - 5)
    with CowDevice(path) as device:
        device.read_into(5, memoryview(target))
    assert bytes(target) == image.read(5, image.size - 5)


def test_every_saved_chunk_is_the_old_content(
    saved: tuple[str, CowImage, cow_images.U64],
) -> None:
    """The table and the data together: what it says was saved is what the origin held."""
    path, _, _ = saved
    with CowDevice(path) as device:
        table = device.table(origin_size=1000 * C)
        for part in (slice(0, 600), slice(250, 260), slice(599, 600), slice(3, 3)):
            target = bytearray(len(table.new[part]) * C)
            device.read_chunks(table.new[part], memoryview(target), chunk_size=C)
            assert target == b"".join(content(chunk) for chunk in table.old[part].tolist())


def test_chunks_come_in_the_order_asked_for(saved: tuple[str, CowImage, cow_images.U64]) -> None:
    path, image, _ = saved
    chunks = [9, 3, 4, 5, 5, 2, 600, 0]
    target = bytearray(len(chunks) * C)
    with CowDevice(path) as device:
        device.read_chunks(np.array(chunks, np.uint64), memoryview(target), chunk_size=C)
    assert target == b"".join(image.read(chunk * C, C) for chunk in chunks)


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_descriptor_is_left")
def test_no_descriptor_outlives_the_device(saved: tuple[str, CowImage, cow_images.U64]) -> None:
    """Neither after success nor after an error whose traceback still holds the buffer."""
    path, _, _ = saved
    device = CowDevice(path)
    device.table(origin_size=1000 * C)
    with pytest.raises(CowFormatError) as held, device:
        device.table(origin_size=C)
    assert "after 1 entries" in held.value.message
    device.close()
    with pytest.raises(HostError, match="Bad file descriptor"):
        device.header()
    with pytest.raises(HostError, match="Bad file descriptor"):
        device.read_into(0, memoryview(bytearray(16)))


@pytest.mark.usefixtures("no_descriptor_is_left")
def test_close_waits_for_the_read_that_is_under_way(tmp_path: Path) -> None:
    """A descriptor closed under a reader could by then be another file's."""
    build(np.arange(9, dtype=np.uint64), chunk_size=C).save(tmp_path / "cow")
    reading, go_on = threading.Event(), threading.Event()

    class Slow(CowDevice):
        def _read_exact(self, offset: int, view: memoryview, wanted: int) -> None:
            reading.set()
            assert go_on.wait(30)
            super()._read_exact(offset, view, wanted)

    device = Slow(str(tmp_path / "cow"))
    headers: list[cow_format.Header] = []
    reader = threading.Thread(target=lambda: headers.append(device.header()))
    closer = threading.Thread(target=device.close)
    reader.start()
    assert reading.wait(30)
    closer.start()
    go_on.set()
    reader.join()
    closer.join()
    assert headers == [cow_format.Header(C)]


def test_the_device_ends_early(saved: tuple[str, CowImage, cow_images.U64]) -> None:
    path, image, _ = saved
    for length in (C, 100):
        with CowDevice(path) as device, pytest.raises(HostError, match=f"ends at .*{image.size}"):
            device.read_into(image.size - length, memoryview(bytearray(length + 1)))


def test_a_real_io_error_is_an_error_of_ours() -> None:
    """Nothing is mapped at address 0, so the kernel answers EIO there."""
    with CowDevice("/proc/self/mem") as device:
        with pytest.raises(HostError, match=r"read 16 bytes at offset 0 .*Input/output error"):
            device.read_into(0, memoryview(bytearray(16)))
        with pytest.raises(HostError, match="find the size of"):
            device.header()


def test_a_file_system_without_direct_reads() -> None:
    """Proc has none. A regular file is read through its one cache all the same."""
    with pytest.raises(OSError, match="Invalid argument"):
        os.open("/proc/self/stat", os.O_RDONLY | os.O_DIRECT)
    target = bytearray(16)
    with CowDevice("/proc/self/stat") as device:
        device.read_into(0, memoryview(target))
    assert target.startswith(b"%d (" % os.getpid())


def test_files_are_opened_for_direct_reads(saved: tuple[str, CowImage, cow_images.U64]) -> None:
    path, _, _ = saved
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("the file system of the tests' temporary files has no direct reads")
    with CowDevice(path) as device:
        flags = fcntl.fcntl(device._fd, fcntl.F_GETFL)
        inherited = os.get_inheritable(device._fd)
    assert flags & os.O_DIRECT
    assert flags & os.O_ACCMODE == os.O_RDONLY
    assert not inherited


@pytest.mark.parametrize("make", ["missing", "directory", "fifo", "character device"])
def test_what_is_no_cow_device_is_refused(tmp_path: Path, make: str) -> None:
    path = "/dev/null" if make == "character device" else str(tmp_path / "there")
    if make == "directory":
        os.mkdir(path)
    if make == "fifo":
        os.mkfifo(path)
    with pytest.raises(VolumeError) as caught:
        CowDevice(path)
    assert path in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, VolumeError),
        (errno.ENXIO, VolumeError),
        (errno.EACCES, NotAllowedError),
        (errno.EPERM, NotAllowedError),
        (errno.EINVAL, DeviceMapperError),
        (errno.EIO, HostError),
    ],
)
def test_each_failure_to_open_says_what_to_do(number: int, kind: type[BlocksnapError]) -> None:
    error = cow_device._not_opened("/dev/mapper/x-cow", OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert os.strerror(number) in error.message
    assert error.effect
    assert error.hint
