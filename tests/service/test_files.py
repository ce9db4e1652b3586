"""Files of a point whose repository is damaged: what is whole comes, what is not is told."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import CancelledRunError, ChecksumError, FormatError
from blocksnapd.files.paths import find
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.files import copying, listing
from blocksnapd.service.runs import LiveRun
from tests.files.corpus import (
    MIB,
    MKFS_ENVIRONMENT,
    FileImage,
    ext_image,
    make_tree,
    names_of,
    open_files,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("mke2fs", path=MKFS_ENVIRONMENT["PATH"]) is None, reason="no mke2fs here"
)


class Damaged(FileImage):
    """An image of which some bytes cannot be read any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lost: range = range(0)
        self.is_closed = False

    def read_into(self, offset: int, view: memoryview) -> None:
        if offset < self.lost.stop and self.lost.start < offset + len(view):
            raise ChecksumError(f"block {self.lost.start // 4096} is damaged")
        super().read_into(offset, view)

    def close(self) -> None:
        self.is_closed = True


class Points:
    def __init__(self, image: Damaged) -> None:
        self.image = image

    async def point(self, selector: str) -> Any:
        return {"id": "p1", "volume": "vg0/home"}

    def open_image(self, point_id: str) -> Any:
        return self.image


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    make_tree(folder / "tree", names=20)
    return ext_image(folder / "image", folder / "tree", "-t", "ext4", size=24 * MIB)


def live_run() -> LiveRun:
    return LiveRun("r1", "copy", "vg0/home", ManualClock(), 0.0)


async def copied(points: Points, to: Path, **more: Any) -> LiveRun:
    job = await copying({"kind": "copy", "point": "p", "path": "/", "to": str(to)} | more, points)
    run = live_run()
    try:
        await job.work(run)
    finally:
        assert points.image.is_closed
    return run


async def test_a_file_with_a_lost_block_is_left_out(disk: Path, tmp_path: Path) -> None:
    points = Points(Damaged(disk))
    files = open_files(FileImage(disk))
    run = next(iter(files.runs(find(files, b"/large")[0])))
    place = run.place + run.length // 2 // 65536 * 65536
    points.image.lost = range(place, place + 4096)
    job = await copying(
        {"kind": "copy", "point": "p", "path": "/", "to": str(tmp_path / "to"), "recursive": True},
        points,
    )
    run_told = live_run()
    with pytest.raises(ChecksumError, match="1 path could not be read and is left out"):
        await job.work(run_told)
    assert f"to/large: block {place // 4096} is damaged" in run_told.warnings
    assert not (tmp_path / "to/large").exists()
    assert (tmp_path / "to/odd").stat().st_size == 70_001
    assert "files" in run_told.reason
    with pytest.raises(ChecksumError):
        await copied(points, tmp_path / "alone", path="/large")
    assert not (tmp_path / "alone").exists()


async def test_where_nothing_can_be_read_nothing_is_made(disk: Path, tmp_path: Path) -> None:
    points = Points(Damaged(disk))
    points.image.lost = range(1024, 2048)
    with pytest.raises(FormatError) as told:
        await copied(points, tmp_path / "to", recursive=True)
    assert told.value.exit_code == 14
    assert told.value.hint
    with pytest.raises(FormatError):
        [part async for part in listing(points, "p", {"path": "/"})]
    assert names_of(tmp_path) == []


async def test_lists_come_in_parts_and_let_the_image_go(disk: Path) -> None:
    points = Points(Damaged(disk))
    (told,) = [part async for part in listing(points, "p", {})]
    assert told["volumes"][0]["offset"] == 0
    parts = [part async for part in listing(points, "p", {"path": "/many", "long": True})]
    assert sum(len(part["entries"]) for part in parts) == 21
    assert points.image.is_closed
    (one,) = [part async for part in listing(points, "p", {"path": "/many/hard", "part": 1})]
    assert one["entries"][0]["name"] == "hard"


async def test_a_cancelled_copy_ends(disk: Path, tmp_path: Path) -> None:
    points = Points(Damaged(disk))
    job = await copying(
        {"kind": "copy", "point": "p", "path": "/", "to": str(tmp_path / "to"), "recursive": True},
        points,
    )
    job.cancel()
    with pytest.raises(CancelledRunError):
        await job.work(live_run())
    assert not (tmp_path / "to/large").exists()
