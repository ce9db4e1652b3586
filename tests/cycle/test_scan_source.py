"""The scan source on real files and loop devices, written to at chosen moments."""

# ruff: noqa: ASYNC230, ASYNC240  (the event loop has nothing else to do meanwhile)

from __future__ import annotations

import asyncio
import mmap
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from blocksnapd.cycle.rotation import Asked, Remove, Ship, Take, decide
from blocksnapd.cycle.scan_source import FILE_TICK_S, SMEARED, UNCHANGED, UNKNOWN, ScanSource
from blocksnapd.errors import NotAllowedError, TrackingLostError, VolumeError
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = MIB + 777


class RealClock:
    """The machine's time: file systems know no other. Remembers how it was waited on."""

    def __init__(self, before_wake: Callable[[], object] = lambda: None) -> None:
        self.slept: list[float] = []
        self._before_wake = before_wake

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds)
        self._before_wake()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "volume.img"
    path.write_bytes(os.urandom(SIZE))
    return path


def source(path: object, clock: RealClock | None = None) -> ScanSource:
    return ScanSource(str(path), "v1", clock or RealClock())


def read(source: ScanSource, point_id: str = "p1") -> bytes:
    """Read as the shipper does: exactly to the end, whatever its alignment."""
    with source.open_snapshot(point_id) as reader:
        buffer = memoryview(mmap.mmap(-1, reader.size))
        for at in range(0, reader.size, 65536):
            reader.read_into(at, buffer[at : at + 65536])
    return bytes(buffer)


async def test_a_quiet_file_is_read_whole_at_one_instant(path: Path) -> None:
    scan = source(path)
    before = datetime.now(UTC)
    taken = await scan.take("p1")
    assert before <= taken.time <= datetime.now(UTC) + timedelta(seconds=1)
    assert (taken.point_id, taken.suspend_s) == ("p1", 0)
    assert read(scan) == path.read_bytes()
    scan.check_valid(("p0", "p1"))
    assert scan.consistency == UNCHANGED


async def test_everything_is_a_candidate_and_nothing_old_is_kept(path: Path) -> None:
    scan = source(path)
    await scan.take("p1")
    changes = scan.changes("p0")
    assert (changes.extents.starts.tolist(), changes.extents.ends.tolist()) == ([0], [SIZE])
    assert list(scan.saved("p0", batch_size=4096)) == []
    assert await scan.repair() == []


@pytest.mark.parametrize("how", ["write", "same size and time", "mapping", "truncate", "replace"])
async def test_a_file_that_changed_while_it_was_read_is_not_one_instant(
    how: str, path: Path
) -> None:
    scan = source(path)
    await scan.take("p1")
    facts = path.stat()
    if how == "replace":
        (path.parent / "other").write_bytes(path.read_bytes())
        (path.parent / "other").rename(path)
    else:
        with path.open("r+b") as file:
            if how == "mapping":
                with mmap.mmap(file.fileno(), 0) as mapping:
                    mapping[5] ^= 1
            elif how == "truncate":
                file.truncate(SIZE - 1)
            else:
                file.write(b"x")
        if how == "same size and time":
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert scan.consistency == SMEARED
    if how in ("truncate", "replace"):
        with pytest.raises(TrackingLostError, match="replaced or changed its size"):
            scan.check_valid(("p1",))
    else:
        scan.check_valid(("p1",))


async def test_reading_and_syncing_by_others_is_no_change(path: Path) -> None:
    scan = source(path)
    await scan.take("p1")
    path.read_bytes()
    with path.open("r+b") as file:
        os.fsync(file.fileno())
    read(scan)
    assert scan.consistency == UNCHANGED


async def test_a_file_written_to_a_moment_ago_is_let_rest_first(path: Path) -> None:
    """Within a tick of the file's clock a second write would leave the same time."""
    clock = RealClock()
    path.write_bytes(os.urandom(SIZE))
    scan = source(path, clock)
    await scan.take("p1")
    assert clock.slept == [FILE_TICK_S]
    assert scan.consistency == UNCHANGED
    await asyncio.sleep(FILE_TICK_S)
    await scan.take("p2")
    assert clock.slept == [FILE_TICK_S]


async def test_a_file_that_never_rests_is_never_called_unchanged(path: Path) -> None:
    scan = source(path, RealClock(before_wake=lambda: path.write_bytes(os.urandom(SIZE))))
    path.write_bytes(os.urandom(SIZE))
    await scan.take("p1")
    assert scan.consistency == UNKNOWN


async def test_the_verdict_outlives_the_instant(path: Path) -> None:
    scan = source(path)
    assert scan.consistency == UNKNOWN
    await scan.take("p1")
    path.write_bytes(b"y" * SIZE)
    await scan.remove("p1")
    await scan.remove("p1")
    assert scan.consistency == SMEARED
    with pytest.raises(TrackingLostError, match="p1"):
        scan.open_snapshot("p1")


async def test_a_file_that_shrinks_while_it_is_read_gives_no_zeros(path: Path) -> None:
    scan = source(path)
    await scan.take("p1")
    os.truncate(path, 70_000)
    with pytest.raises(Exception, match=r"ends at offset \d+.*wanted bytes up to"):
        read(scan)


async def test_another_file_of_that_name_is_not_read_as_the_one_taken(path: Path) -> None:
    scan = source(path)
    await scan.take("p1")
    (path.parent / "other").write_bytes(os.urandom(SIZE))
    (path.parent / "other").rename(path)
    with pytest.raises(TrackingLostError, match="replaced"):
        scan.open_snapshot("p1")


async def test_rotation_takes_ships_and_drops_what_became_invalid(path: Path) -> None:
    """The rotation's table needs no word about this driver."""
    scan = source(path)

    async def command(pending_id: str, *, due: bool) -> object:
        asked = Asked(due=due)
        return decide(await scan.observe(), None, pending_id, tracks=scan.tracks, asked=asked)

    assert await command("", due=True) == Take()
    await scan.take("p1")
    assert (await scan.observe()).size == SIZE
    assert await command("p1", due=False) == Ship("p1", "first", reason="first")
    os.truncate(path, SIZE + 4096)
    assert isinstance(await command("p1", due=False), Remove)
    await scan.remove("p1")
    assert (await scan.observe()).snapshots == ()
    assert (await scan.observe()).size == SIZE + 4096


@pytest.mark.parametrize("what", ["missing", "directory", "fifo", "empty", "loop of links"])
async def test_what_cannot_be_protected_is_a_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path / "volume"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "empty":
        path.touch()
    elif what == "loop of links":
        path.symlink_to(path)
    for call in (source(path).observe(), source(path).take("p1")):
        with pytest.raises(VolumeError) as caught:
            await call
        assert str(path) in caught.value.message
        assert caught.value.effect
        assert caught.value.hint


async def test_a_file_without_rights_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is planted."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(NotAllowedError, match="Permission denied"):
            await source(path).observe()


# --- block devices ---------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    (tmp_path / f"loop-{MIB}.img").write_bytes(os.urandom(MIB))
    with loop_device(tmp_path, MIB) as device:
        yield device


def overwrite(device: str) -> None:
    with open(device, "r+b") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


async def test_a_quiet_device_is_read_whole_at_one_instant(device: str, tmp_path: Path) -> None:
    scan = source(device)
    assert (await scan.observe()).size == MIB
    await scan.take("p1")
    assert read(scan) == (tmp_path / f"loop-{MIB}.img").read_bytes()
    scan.check_valid(("p1",))
    assert scan.consistency == UNCHANGED


async def test_a_device_that_was_written_to_is_not_one_instant(device: str) -> None:
    scan = source(device)
    await scan.take("p1")
    overwrite(device)
    assert scan.consistency == SMEARED
    scan.check_valid(("p1",))
    await scan.take("p2")
    assert scan.consistency == UNCHANGED


async def test_what_was_in_the_cache_before_belongs_to_the_instant(device: str) -> None:
    """Written and not synced: the sync of ``take`` brings it to the device, and it is read."""
    scan = source(device)
    with open(device, "r+b", buffering=0) as file:
        file.write(b"z" * 4096)
        await scan.take("p1")
        assert read(scan)[:4096] == b"z" * 4096
        assert scan.consistency == UNCHANGED


async def test_a_kernel_that_does_not_count_is_not_believed(device: str) -> None:
    counting = f"/sys/class/block/{os.path.basename(device)}/queue/iostats"
    try:
        with open(counting, "w") as file:
            file.write("0")
    except OSError as error:
        pytest.skip(f"no right to stop the kernel's counting: {error}")
    try:
        scan = source(device)
        await scan.take("p1")
        overwrite(device)
        assert scan.consistency == UNKNOWN
    finally:
        with open(counting, "w") as file:
            file.write("1")
