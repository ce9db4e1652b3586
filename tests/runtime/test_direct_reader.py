"""The direct reader against the bytes of the file, at every alignment."""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import HostError
from blocksnapd.runtime.direct_reader import DirectReader
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 2 * MIB + 4096 + 700
CONTENT = os.urandom(SIZE)
REAL_OPEN = os.open

borders = st.sampled_from([0, 512, 4096, MIB - 4096, MIB, MIB + 4096, 2 * MIB, SIZE])
offsets = st.builds(lambda at, by: min(max(at + by, 0), SIZE), borders, st.integers(-600, 600))


@pytest.fixture(params=["direct", "cached"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a file, read directly or as if its file system knew no O_DIRECT."""
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    if request.param == "cached":
        monkeypatch.setattr(os, "open", open_without_direct)
    return str(file)


def open_without_direct(path: str, flags: int) -> int:
    if flags & os.O_DIRECT:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    return REAL_OPEN(path, flags)


@given(offsets, offsets, st.sampled_from([0, 1, 512]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_range_into_any_memory_is_the_files(path: str, one: int, other: int, skew: int) -> None:
    start, end = sorted((one, other))
    memory = memoryview(mmap.mmap(-1, SIZE + 4096))[skew : skew + end - start]
    with DirectReader(path, SIZE) as reader:
        reader.read_into(start, memory)
    assert memory == CONTENT[start:end]


def test_whole_equals_pieces(path: str) -> None:
    pieces = bytearray(SIZE)
    with DirectReader(path, SIZE) as reader:
        for at in range(0, SIZE, 12288):
            reader.read_into(at, memoryview(pieces)[at : at + 12288])
    assert pieces == CONTENT


def test_a_file_that_ends_early_is_an_error_that_says_where(tmp_path: Path) -> None:
    file = tmp_path / "short"
    file.write_bytes(CONTENT[:10_000])
    with (
        DirectReader(str(file), 20_000, effect="No point was made.") as reader,
        pytest.raises(HostError, match="ends at offset 10000, wanted bytes up to 20000") as caught,
    ):
        reader.read_into(0, memoryview(bytearray(20_000)))
    assert caught.value.effect == "No point was made."


def test_bytes_behind_the_size_are_not_read(path: str) -> None:
    with DirectReader(path, 5000) as reader, pytest.raises(HostError, match="ends at offset 5000"):
        reader.read_into(4096, memoryview(bytearray(1000)))


def test_a_closed_reader_stays_closed(path: str) -> None:
    reader = DirectReader(path, SIZE)
    assert reader.size == SIZE
    reader.close()
    reader.close()
    with pytest.raises(HostError):
        reader.read_into(0, memoryview(bytearray(512)))


def test_nothing_there_is_the_callers_to_tell(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectReader(str(tmp_path / "none"), 1)


def test_a_block_device_is_never_read_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_device(tmp_path, MIB) as device:
        monkeypatch.setattr(os, "open", open_without_direct)
        with pytest.raises(OSError, match="Invalid argument"):
            DirectReader(device, MIB)


def test_a_block_device_is_read_past_what_the_cache_holds(tmp_path: Path) -> None:
    """The bytes change below the device, where its page cache cannot know of it."""
    with loop_device(tmp_path, MIB) as device, open(device, "rb") as cached:
        assert cached.read(4096) == bytes(4096)
        (tmp_path / f"loop-{MIB}.img").write_bytes(CONTENT[:MIB])
        view = memoryview(bytearray(4096))
        with DirectReader(device, MIB) as reader:
            reader.read_into(0, view)
        cached.seek(0)
        assert cached.read(4096) == bytes(4096), "the naive read shows what was there before"
        assert view == CONTENT[:4096]
