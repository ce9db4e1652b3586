"""What the daemon says to whoever restores a volume in place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BusyError, NotFoundError, RefusedError, StoreError
from blocksnapd.service.leasing import end_views, hear
from tests.service.bench import ROOT, SETTINGS, Bench

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import Who

ME: Who = {"pid": os.getpid(), "uid": 0, "login": "root"}


class Disk:
    """A watch over a COW space whose disk has 5000 bytes, 2000 of them in reserve."""

    def cow_use(self, point_id: str) -> tuple[int, int] | None:
        return 0, 1 << 20

    directory = "/mnt/snapshots"

    async def end_views(self) -> list[str]:
        return ["Ended the view /dev/mapper/blocksnap-view-x-p1."]

    def is_given_up(self, point_id: str) -> bool:
        return False

    async def grow(self, point_id: str, rate: float) -> int:
        return 0

    def disk_room(self) -> tuple[int, int] | None:
        return 5000, 2000


async def test_from_the_beginning_to_the_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.watch = Disk()
    async with bench.running():
        await bench.idle()
        told = await hear(bench.task, {"point": "p7"}, ME)
        assert (told["point"], told["safety"], told["writing"], told["room"]) == (
            "p7", "", False, 3000,
        )  # fmt: skip
        assert bench.task.pausing.holds()
        with pytest.raises(BusyError):
            await hear(bench.task, {"point": "p8"}, ME)
        told = await hear(bench.task, {"id": told["id"], "safety": "p9", "writing": True}, ME)
        assert (told["safety"], told["writing"]) == ("p9", True)
        assert told["directory"] == "/mnt/snapshots"
        assert await end_views(bench.task) == ["Ended the view /dev/mapper/blocksnap-view-x-p1."]
        await hear(bench.task, {"id": told["id"], "done": True}, ME)
        assert not bench.task.pausing.holds()
        with pytest.raises(NotFoundError):
            await hear(bench.task, {"id": told["id"], "done": True}, ME)


async def test_who_may_not_begin(tmp_path: Path) -> None:
    scanned = Bench(tmp_path, settings=SETTINGS.model_copy(update={"driver": "scan", "cow": None}))
    with pytest.raises(RefusedError, match="tracks no changes") as refused:
        await hear(scanned.task, {"point": "p7"}, ROOT)
    assert "--to" in refused.value.hint
    closed = Bench(tmp_path)
    with pytest.raises(StoreError, match="is not protected right now"):
        await hear(closed.task, {"point": "p7"}, ROOT)
    assert not closed.task.pausing.holds()
