"""A partition exported as a disk of its own, over a real socket; what cannot be is refused."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import NotFoundError, RefusedError, UsageError
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.part_export import PartPoints, exporting_part
from blocksnapd.service.runs import LiveRun
from tests.files.test_volumes import with_mbr
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = bytes(range(256)) * 256
DISK = with_mbr((0x83, 64, 200, INSIDE), (0x82, 300, 8, bytes(4086) + b"SWAPSPACE2"))


class Points:
    def __init__(self, content: bytes) -> None:
        self.image = MemoryImage(content, 512)
        self.opened = self.closed = 0

    async def point(self, selector: str) -> Any:
        if selector == "other":
            return {"id": "p2", "volume": "v", "size": 9, "time": "T", "block_size": 512}
        return {"id": "p1", "volume": "v", "size": self.image.size, "time": "T", "block_size": 512}

    async def points(self, volume: str | None) -> Any:
        return [await self.point("p1")]

    def open_image(self, point_id: str) -> Any:
        self.opened += 1
        image = MemoryImage(self.image.content, 512)
        image.close = self._close  # type: ignore[method-assign]
        return image

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.skipif(shutil.which("nbdcopy") is None, reason="no nbdcopy here")
async def test_only_the_part_is_there(tmp_path: Path) -> None:
    points = Points(DISK)
    socket = str(tmp_path / "s")
    job = await exporting_part({"kind": "export", "point": "p1", "part": 1, "unix": socket}, points)
    run = LiveRun("r1", "export", "v", ManualClock(), 0.0)
    serving = asyncio.create_task(job.work(run))  # type: ignore[arg-type]
    argv = ["nbdcopy", f"nbd+unix:///?socket={socket}", str(tmp_path / "copy")]
    try:
        await asyncio.to_thread(subprocess.run, argv, check=True, timeout=60)
    finally:
        job.cancel()
        await serving
    assert await asyncio.to_thread((tmp_path / "copy").read_bytes) == INSIDE.ljust(200 * 512, b"\0")
    assert points.opened == points.closed == 2


async def test_what_cannot_be_is_refused_and_closed() -> None:
    points = Points(DISK)
    base: Any = {"kind": "export", "unix": "/nowhere/s"}
    for more, error in (
        ({"part": 1}, UsageError),
        ({"part": 3, "point": "p1"}, NotFoundError),
    ):
        with pytest.raises(error):
            await exporting_part(base | more, points)
    cut = Points(DISK[: 250 * 512])
    with pytest.raises(RefusedError, match="behind the end"):
        await exporting_part(base | {"part": 1, "point": "p1"}, cut)
    for used in (points, cut):
        assert used.opened == used.closed


async def test_a_part_is_the_only_point_there_is() -> None:
    points = Points(DISK)
    part = PartPoints(points, await points.point("p1"), 2)
    part.look()
    assert (await part.point("p1"))["size"] == 8 * 512
    assert [len(await part.points(volume)) for volume in (None, "v", "w")] == [1, 1, 0]
    with pytest.raises(NotFoundError):
        await part.point("other")
