"""Targets as status and the metrics tell them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.config import Target
from blocksnapd.errors import KeyMissingError, StoreMissingError
from blocksnapd.metrics import Metrics
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.targets import TargetWatch, reach
from blocksnapd.store.init import init_repository

if TYPE_CHECKING:
    from pathlib import Path


def made(path: Path) -> Target:
    report = init_repository(str(path / "repository"), str(path / "keys"))
    return Target(url=f"file://{path}/repository", source_key=report.source_key)


async def test_up_down_and_up_again(tmp_path: Path) -> None:
    target, registry = made(tmp_path), CollectorRegistry()
    watch = TargetWatch({"near": target}, Metrics(registry), ManualClock())
    assert watch.messages()[0]["up"] is None
    await watch.look("near", target)
    seen = watch.messages()[0]
    assert (seen["up"], seen["message"]) == (True, "")
    assert registry.get_sample_value("blocksnap_target_rtt_seconds", {"target": "near"}) == 0
    assert seen["free_bytes"] == registry.get_sample_value(
        "blocksnap_target_free_bytes", {"target": "near"}
    )
    (tmp_path / "repository").rename(tmp_path / "away")
    await watch.look("near", target)
    seen = watch.messages()[0]
    assert (seen["up"], seen["free_bytes"]) == (False, None)
    assert "there is no directory" in seen["message"]
    assert registry.get_sample_value("blocksnap_target_up", {"target": "near"}) == 0
    (tmp_path / "away").rename(tmp_path / "repository")
    await watch.look("near", target)
    assert registry.get_sample_value("blocksnap_target_up", {"target": "near"}) == 1


async def test_reaching_for_the_doctor(tmp_path: Path) -> None:
    target = made(tmp_path)
    assert await reach(target) == []
    (tmp_path / "keys" / "source.key").unlink()
    with pytest.raises(KeyMissingError):
        await reach(target)
    shutil.rmtree(tmp_path / "repository")
    with pytest.raises((KeyMissingError, StoreMissingError)):
        await reach(target)
