"""A run beside the daemon gets the point, the run, a stop and somebody to ask."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from blocksnapd.errors import NotFoundError
from blocksnapd.service.beside import Beside, job_beside


class Points:
    """Knows one point."""

    async def point(self, selector):
        if selector != "p1":
            raise NotFoundError(f"there is no {selector}")
        return {"id": "p1", "volume": "vg/data"}

    def named(self, point_id):
        return SimpleNamespace(point_id=point_id)


async def test_it_works_with_the_point_and_can_be_cancelled(tmp_path):
    seen: list[Beside] = []

    async def work(beside: Beside) -> None:
        seen.append(beside)
        assert not beside.stop.is_set()

    request = {"point": "p1", "daemon": str(tmp_path / "control.sock")}
    job = await job_beside(request, Points(), work)
    run = SimpleNamespace()
    await job.work(run)
    assert job.volume == "vg/data"
    assert seen[0].point.point_id == "p1"
    assert seen[0].run is run
    job.cancel()
    assert seen[0].stop.is_set()


async def test_a_point_that_is_not_there_is_told_before_the_run_begins():
    async def work(_beside: Beside) -> None:
        raise AssertionError

    with pytest.raises(NotFoundError):
        await job_beside({"point": "p2", "daemon": "/nowhere"}, Points(), work)
