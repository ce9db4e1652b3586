"""restore --in-place: what is asked first, whom the worker is sent to, how its end is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from blocksnapctl import in_place, render
from tests.control.serving import serving
from tests.ctl.calling import Called, calling

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import Run


async def restored(served: Any, tmp_path: Path, *words: str) -> Called:
    key = tmp_path / "restore.key"
    key.write_text('{"kind": "restore"}')
    return await calling(
        "restore", "vg0/home@latest", "--in-place", "--key", str(key), "--socket", served.path,
        *words,
    )  # fmt: skip


async def test_nobody_agreed(tmp_path: Path) -> None:
    async with serving() as served:
        found = await restored(served, tmp_path)
    assert found.code == 12
    assert "vg0/home would be overwritten" in found.err
    assert "--yes" in found.err
    assert in_place.restore_in_place.__doc__


async def test_the_worker_is_told_where_the_daemon_is(tmp_path: Path) -> None:
    async with serving() as served:
        found = await restored(served, tmp_path, "--yes", "--json")
    assert found.code == 0, found.err
    assert "p0003000000000000, 2026-11-22T14:04:00.000Z → vg0/home, in place" in found.err
    assert found.lines[-1]["kind"] == "in-place"
    assert os.path.isabs(served.path)


@pytest.mark.parametrize("words", [(), ("--to", "/x", "--in-place")])
async def test_either_in_place_or_to_somewhere(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = await calling("restore", "p1", "--key", str(tmp_path), *words)
    assert found.code == 2


def test_its_end() -> None:
    run = {
        "id": "r1", "kind": "in-place", "volume": "vg0/home", "result": "success", "point": "p7",
        "duration": 3.0, "changed_bytes": 50 << 20, "reason": "To undo it: x",
    }  # fmt: skip
    assert render.run_ended(cast("Run", run)) == (
        "run r1  vg0/home  success in 3.0s\n  To undo it: x\nvg0/home is p7 now; 50.0 MiB written\n"
    )
    failed = render.run_ended(cast("Run", run | {"result": "failed"}))
    assert "is p7 now" not in failed
