"""Targets as status and the metrics tell them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.config import Target
from blocksnapd.config_model import Bandwidth
from blocksnapd.errors import KeyMissingError, StoreMissingError
from blocksnapd.metrics import Metrics
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.targets import TargetWatch, reach
from blocksnapd.store.init import init_repository
from blocksnapd.store.places import open_store

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


async def test_what_happens_on_the_way_is_counted(tmp_path: Path) -> None:
    target, registry = made(tmp_path), CollectorRegistry()
    limited = target.model_copy(update={"bandwidth": (Bandwidth(limit="64 KiB/s"),)})
    watch = TargetWatch({"near": limited}, Metrics(registry), ManualClock())

    def told(name: str) -> float | None:
        return registry.get_sample_value(f"blocksnap_target_{name}_total", {"target": "near"})

    open_store(limited.url, limited.access).put("v/x/d/1", [b"x" * 10_000] * 2)
    for _ in range(2):  # told once, however often it is looked
        await watch.look("near", limited)
        assert told("sent_bytes") == 20_000
        assert told("throttled_seconds") == pytest.approx(10_000 / 65536, abs=0.1)
    (tmp_path / "repository").rename(tmp_path / "away")
    with pytest.raises(StoreMissingError):
        open_store(limited.url, limited.access)
    await watch.look("near", limited)
    assert (told("retries"), told("stalls")) == (0, 0)


async def test_reaching_for_the_doctor(tmp_path: Path) -> None:
    target = made(tmp_path)
    assert await reach(target) == []
    (tmp_path / "keys" / "source.key").unlink()
    with pytest.raises(KeyMissingError):
        await reach(target)
    shutil.rmtree(tmp_path / "repository")
    with pytest.raises((KeyMissingError, StoreMissingError)):
        await reach(target)
