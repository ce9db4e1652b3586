"""Floors and rounds of maintenance: what the receiver has done for the hosts it keeps."""

from __future__ import annotations

import json
import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from blocksnapd.config_receive import Host, Receive, ReceiveConfig
from blocksnapd.receive.metrics import ReceiveMetrics
from blocksnapd.receive.roots import DirectoryRoot
from blocksnapd.receive.upkeep import Upkeep, round_argv, write_floors
from blocksnapd.runtime.clock import SystemClock
from blocksnapd.store.init import init_repository


@pytest.fixture
def root(tmp_path):
    for host in ("db01", "db02"):
        init_repository(str(tmp_path / "root" / host), str(tmp_path / f"keys-{host}"))
    return tmp_path / "root"


def config_of(root, **hosts: dict[str, object]) -> ReceiveConfig:
    return ReceiveConfig(
        path="", receive=Receive(root=str(root)), defaults=Host(floor="1d"),
        hosts={name: Host.model_validate(said) for name, said in hosts.items()},
    )  # fmt: skip


def test_every_host_gets_its_floor(root):
    (root / ".lost").mkdir()
    config = config_of(root, db02={"floor": "30d"})
    kept = DirectoryRoot(str(root))
    assert kept.hosts() == ["db01", "db02"]
    write_floors(kept, config)
    assert json.loads((root / "db01/.floor").read_text()) == {"floor_s": 86_400}
    assert json.loads((root / "db02/.floor").read_text()) == {"floor_s": 30 * 86_400}
    write_floors(kept, config_of(root, db02={}))
    assert not (root / "db02/.floor").exists()


async def test_a_round_is_a_process_of_its_own_and_is_counted(root, tmp_path, caplog):
    """The real command on a real, empty repository; and with a key that is not its own."""
    caplog.set_level(logging.INFO)
    keys = {host: str(tmp_path / f"keys-{host}" / "maintenance.key") for host in ("db01", "db02")}
    config = config_of(
        root,
        db01={"maintenance_key": keys["db01"], "keep": ["1/h for 2d"]},
        db02={"maintenance_key": keys["db01"]},
    )
    assert round_argv("/x", config.host("db01"))[-2:] == ["--keep", "1/h for 2d"]
    metrics = ReceiveMetrics(CollectorRegistry())
    upkeep = Upkeep(DirectoryRoot(str(root)), lambda: config, metrics, SystemClock())
    for host in ("db01", "db02", "unknown"):
        await upkeep.maintain(host)
    lines = generate_latest(metrics.registry).decode()
    name = "blocksnap_receiver_maintenance"
    assert f'{name}_last_success_timestamp_seconds{{host="db01"}}' in lines
    assert f'{name}_last_success_timestamp_seconds{{host="db02"}}' not in lines
    assert f'{name}_failures_total{{host="db02"}} 1.0' in lines
    assert "db02 could not be maintained" in caplog.text
