"""What a restore would do, told before; and what is known of what it would give."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from blocksnapd.maintain.verify_runs import VerifyRuns
from blocksnapd.restore.journal import Batch
from blocksnapd.restore.target import TargetPlan
from blocksnapd.service import restore_plan
from blocksnapd.service.restoring import _journal
from tests.service.test_salvaging import BLOCK, Damaged, host, pack_of, restored

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["host"]


async def plan_of(host: Damaged, number: int, to: Path, **more: Any) -> dict[str, Any]:
    run = await restored(host, number, to, dry_run=True, **more)
    assert run["result"] == "success", run
    return run["planned"]


def verify(host: Damaged) -> None:
    """Read everything back, as maintenance does."""
    runs = VerifyRuns(
        host.lab.store, host.keys, host.made[0].facts.volume_id,
        progress=lambda _done, _total: None, cancelled=lambda: False,
    )  # fmt: skip
    runs.whole(1_800_000_000_000_000, share=1.0)


async def test_a_plan_changes_nothing_and_tells_all(host: Damaged, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    found = await plan_of(host, 1, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == before
    facts = host.made[1].facts
    assert (found["target"], found["to"], found["replaces"]) == (
        "file", str(tmp_path / "out"), False,
    )  # fmt: skip
    assert (found["size"], found["content_bytes"]) == (1000 * BLOCK - 99, 900 * BLOCK)
    assert (found["point"], found["volume"]) == (facts.point_id, facts.volume_name)
    assert (found["consistency"], found["suspect"]) == ("crash", True)  # as the lab's facts say
    assert (found["read_back"], found["read_back_packs"]) == (None, [0, 2])
    assert (found["damaged_bytes"], found["kept_bytes"], found["notes"]) == (0, 0, [])
    assert (found["rate"], found["seconds"]) == (None, None), "3.6 MB tell nothing"


async def test_what_verification_found_is_told(host: Damaged, tmp_path: Path) -> None:
    verify(host)
    found = await plan_of(host, 1, tmp_path / "out")
    assert (found["read_back"], found["read_back_packs"]) == ("2027-01-15T08:00:00.000Z", [2, 2])
    pack = pack_of(host, 1)
    pack.unlink()
    verify(host)
    found = await plan_of(host, 1, tmp_path / "out")
    assert found["damaged_bytes"] == 400 * BLOCK
    assert (await plan_of(host, 3, tmp_path / "out"))["damaged_bytes"] == 0


async def test_an_existing_file_and_an_interrupted_restore(host: Damaged, tmp_path: Path) -> None:
    to = TargetPlan(str(tmp_path / "out"), "file", 0, replaces=False)
    journal = _journal(to, host.held.open_image(host.id(3)))
    assert journal is not None
    journal.start([Batch(np.array([3, 9], np.uint64), np.array([4, 1], np.uint64), 0)])
    assert (await plan_of(host, 3, tmp_path / "out"))["kept_bytes"] == 5 * BLOCK
    assert (await plan_of(host, 2, tmp_path / "out"))["kept_bytes"] == 0, "of another point"
    (tmp_path / "old").write_text("precious")
    found = await plan_of(host, 0, tmp_path / "old", overwrite=True)
    assert found["replaces"]
    assert (tmp_path / "old").read_text() == "precious"


async def test_a_rate_is_measured_or_not_told(host: Damaged) -> None:
    image = host.held.open_image(host.id(0))
    ticks = itertools.count(step=0.5)
    assert restore_plan.measured_rate(image, lambda: next(ticks)) is None
    restore_plan.RATE_SIZE_MIN, before = BLOCK, restore_plan.RATE_SIZE_MIN  # type: ignore[misc]
    try:
        rate = restore_plan.measured_rate(image, lambda: next(ticks))
        assert rate is not None
        assert BLOCK <= rate <= 900 * BLOCK
        pack_of(host, 0).unlink()
        assert restore_plan.measured_rate(host.held.open_image(host.id(0))) is None
    finally:
        restore_plan.RATE_SIZE_MIN = before  # type: ignore[misc]
