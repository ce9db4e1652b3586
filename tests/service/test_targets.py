"""Targets as status and the metrics tell them."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from blocksnapd.config import Config, Target
from blocksnapd.config_model import Bandwidth
from blocksnapd.errors import KeyMissingError, StoreMissingError
from blocksnapd.metrics import Metrics
from blocksnapd.runtime.clock import ManualClock
from blocksnapd.service.targets import TargetWatch, reach
from blocksnapd.store.init import init_repository
from blocksnapd.store.places import open_store
from blocksnapd.store.receiver import open_receiver
from tests.receive.running import Running

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


async def test_a_receivers_clock_is_told(tmp_path):
    """Two hours ahead of this host's; without an answer nobody knows."""
    with Running(tmp_path) as receiver:
        init_repository(str(receiver.root / "db01"), str(tmp_path / "keys"))
        mine = receiver.authority.client("source", "db01")
        target = Target(
            url=f"https://127.0.0.1:{receiver.tcp_port}/", ca=receiver.authority.ca,
            cert=mine.cert, key=mine.key, source_key=str(tmp_path / "keys/source.key"),
        )  # fmt: skip
        receiver.clock = lambda: time.time() + 7200
        registry = CollectorRegistry()
        watch = TargetWatch({"vault": target}, Metrics(registry), ManualClock())
        await watch.look("vault", target)
        said = registry.get_sample_value(
            "blocksnap_target_clock_offset_seconds", {"target": "vault"}
        )
        assert said == pytest.approx(7200, abs=60)
        assert watch.messages()[0]["up"] is True
        open_receiver(target.url, target.access).close()


async def test_targets_that_a_reload_brings_or_changes_are_looked_at(tmp_path: Path) -> None:
    """Nothing is known of them yet, and the watch, with it the daemon, goes on."""
    near, metrics = made(tmp_path / "one"), Metrics(CollectorRegistry())
    watch = TargetWatch({"near": near}, metrics, ManualClock())
    await watch.look("near", near)
    other = made(tmp_path / "two")
    for targets in ({"near": near, "far": other}, {"near": other}, {}, {"near": near}):
        watch.reconfigure(Config.model_construct(targets=targets))
        for name, target in targets.items():
            await watch.look(name, target)
        assert {seen["name"]: seen["up"] for seen in watch.messages()} == dict.fromkeys(
            targets, True
        )
