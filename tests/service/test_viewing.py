"""A view where none can be; where it can, tests.lab.test_view makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import RefusedError
from blocksnapd.service import viewing
from tests.control.serving import serving
from tests.service.test_worker_operations import Host

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_daemon_is_told_that_it_ended_also_when_it_failed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.held.load()
    point = host.points[0].facts.point_id
    async with serving() as served:
        run = await host.done(kind="view", point=point, daemon=served.path)
        assert run["result"] == "failed"  # the daemon of this test knows no db/data
        assert run["error"] is not None
        assert run["error"]["exit_code"] == 11
        served.operations.volumes["db/data"] = served.operations.volumes["vg0/home"]
        run = await host.done(kind="view", point=point, daemon=served.path)
        assert run["result"] == "failed"
        assert run["error"] is not None
        assert "no COW space with a file" in run["error"]["message"]
        assert served.operations.in_place_heard == [{"point": point}, {"id": "z1", "done": True}]


def test_what_the_kernel_cannot_show() -> None:
    with pytest.raises(RefusedError, match="no logical volume"):
        viewing._logical_volume("/srv/disk.img")
    viewing._check_room(None, 1 << 40)
    viewing._check_room(100, 100)
    with pytest.raises(RefusedError, match="above its reserve"):
        viewing._check_room(100, 101)
