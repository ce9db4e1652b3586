"""The status of a whole receiver: real repositories in a directory, some late, damaged, empty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from blocksnapd.config_receive import Host, Receive, ReceiveConfig
from blocksnapd.errors import StoreError, UsageError
from blocksnapd.receive.fleet import at_root, root_named, show, volumes_here
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import pack_maintenance
from tests.store.support import START, VOLUME, Lab

HOUR = 3600.0
TAKEN = START.timestamp() + 60  # when a Lab takes its first point
CONFIG = 'schema = 1\n[receive]\nroot = "/nowhere"\n[defaults]\nrpo = "1h"\n'


def kept(root, host: str) -> Lab:
    """Give a host a repository with one point of one volume."""
    (root / host).mkdir(parents=True)
    lab = Lab(store=LocalStore(str(root / host)))
    lab.write(range(8))
    lab.commit()
    return lab


def point_of(root, host: str):
    return next((root / host).glob("v/*/p/*.pt"))


def config_of(root, **hosts: dict[str, object]) -> ReceiveConfig:
    said = {name: Host.model_validate(raw) for name, raw in hosts.items()}
    return ReceiveConfig(path="", receive=Receive(root=str(root)), hosts=said)


def test_each_volume_beside_the_rpo_of_its_host(tmp_path):
    for host in ("db01", "db02", "db03", "db04"):
        kept(tmp_path, host)
    config = config_of(
        tmp_path, db01={"rpo": "1h"}, db02={"rpo": "5m"}, db04={"rpo": "5m", "blocked": True}
    )
    found = volumes_here(config, TAKEN + HOUR / 2)
    assert [(v.host, v.state) for v in found] == [
        ("db01", "protected"), ("db02", "late"), ("db03", "no-rpo"), ("db04", "blocked"),
    ]  # fmt: skip
    assert {v.exposure_s for v in found} == {HOUR / 2}
    assert (found[0].time_s, found[0].points, found[0].volume) == (TAKEN, 1, VOLUME)


def test_a_source_s_clock_cannot_hide_that_it_is_late(tmp_path):
    """The point says half an hour; it has been here for two."""
    kept(tmp_path, "db01")
    point, now = point_of(tmp_path, "db01"), time.time()
    os.utime(point, (now - 2 * HOUR, now - 2 * HOUR))
    (found,) = volumes_here(config_of(tmp_path, db01={"rpo": "1h"}), TAKEN + HOUR / 2)
    assert found.state == "late"
    assert found.exposure_s == pytest.approx(2 * HOUR, abs=30)
    assert found.arrived_s == pytest.approx(TAKEN + HOUR / 2 - 2 * HOUR, abs=30)


def test_the_key_tells_names_and_a_wrong_one_nothing(tmp_path):
    lab, other = kept(tmp_path / "r", "db01"), kept(tmp_path / "r", "db02")
    key = tmp_path / "maintenance.key"
    key.write_bytes(pack_maintenance(lab.keys))
    key.chmod(0o600)
    config = config_of(
        tmp_path / "r", db01={"maintenance_key": str(key)}, db02={"maintenance_key": str(key)}
    )
    assert [v.volume for v in volumes_here(config, TAKEN)] == ["db/data", VOLUME]
    assert other.keys != lab.keys


def test_what_cannot_be_read_is_named_and_hides_nothing_else(tmp_path, capsys):
    kept(tmp_path, "db01")
    kept(tmp_path, "db02")
    with open(point_of(tmp_path, "db01"), "r+b") as file:
        file.write(b"nonsense")
    (tmp_path / "e\x1b[31m").mkdir()
    init_repository(str(tmp_path / "f"), str(tmp_path.parent / "keys-f"))
    config = config_of(tmp_path)
    found = {v.host: v for v in volumes_here(config, TAKEN)}
    assert [v.state for v in found.values()] == ["damaged", "no-rpo", "damaged", "unprotected"]
    assert ".pt, cannot be read" in found["db01"].problem
    assert "there is no repository" in found["e\x1b[31m"].problem
    assert show(config, as_json=False) == 13
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert len(printed.splitlines()) == 1 + 4 + 2  # the two problems have lines of their own


def test_a_place_that_is_none(tmp_path):
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        volumes_here(config_of(tmp_path / "none"), TAKEN)
    assert at_root(config_of(tmp_path), root_named("file:///vault")).receive.root == "/vault"
    assert at_root(config_of(tmp_path), root_named(None)).receive.root == str(tmp_path)


@pytest.mark.parametrize("url", ["https://backup1:7420/", "ssh://a@backup1"])
def test_another_host_s_directory_is_refused_also_where_no_receiver_is(url):
    argv = [sys.executable, "-m", "blocksnapctl", "--target", url, "status"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == UsageError("").exit_code
    assert f"'{url}' is neither a directory of this host nor a bucket" in done.stderr
    assert "blocksnapctl --repo URL points" in done.stderr


def test_the_command(tmp_path):
    """As an operator types it; the point of a Lab is of months ago."""
    kept(tmp_path / "vault", "db01")
    config = tmp_path / "receive.toml"
    config.write_text(CONFIG)
    argv = [sys.executable, "-m", "blocksnapctl", "--target", str(tmp_path / "vault"), "status"]
    more = ["--config", str(config)]
    page = subprocess.run([*argv, *more], capture_output=True, text=True, check=False)
    assert (page.returncode, page.stderr) == (13, "")
    head, row = page.stdout.splitlines()
    assert head.split()[:3] == ["HOST", "VOLUME", "STATE"]
    assert row.split()[:3] == ["db01", VOLUME, "late"]
    assert "/ 1h00m" in row
    done = subprocess.run([*argv, "--json", *more], capture_output=True, text=True, check=False)
    (volume,) = json.loads(done.stdout)["volumes"]
    assert (done.returncode, volume["state"], volume["rpo"]) == (13, "late", HOUR)
    assert volume["last_point"]["time"] == "2026-01-02T03:05:05.678Z"
    config.write_text(CONFIG.replace('rpo = "1h"', 'rpo = "36500d"'))
    assert subprocess.run([*argv, *more], capture_output=True, check=False).returncode == 0
