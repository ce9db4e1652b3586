"""Maintaining configured targets once: whom it serves, with which orders, and what it prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from blocksnapd import config as configuration
from blocksnapd.errors import NotFoundError
from blocksnapd.maintain.maintainer import Orders
from blocksnapd.service.maintain_targets import Teller, maintain, orders_for
from blocksnapd.store.files import LocalStore
from blocksnapd.store.init import init_repository
from blocksnapd.store.keys import load_restore
from blocksnapd.store.places import own_directories
from tests.store.support import START, Lab

TEXT = """schema = 1
[target.near]
url = "{url}"
source_key = "{keys}/source.key"
maintenance_key = "{keys}/maintenance.key"
[target.far]
url = "{url}-far"
source_key = "{keys}/source.key"
[retention.short]
keep = ["all for 1h"]
min_points = 1
max_delete_pct = 100
[volume."db/data"]
targets = ["near"]
driver = "scan"
retention = "short"
verify = {{ structure = "7d", data = "20%/day" }}
[volume."db/logs"]
targets = ["near"]
driver = "scan"
"""


@pytest.fixture
def site(tmp_path):
    """A repository with five points of db/data, and a configuration."""
    url, keys = tmp_path / "repo", tmp_path / "keys"
    report = init_repository(str(url), str(keys))
    lab = Lab(LocalStore(str(url)), load_restore(report.restore_key))
    for _ in range(5):
        lab.commit(lab.write([1, 2]) if lab.kept else None)
    path = tmp_path / "blocksnap.toml"
    path.write_text(TEXT.format(url=url, keys=keys))
    return configuration.load(str(path)), lab


def later(hours: float) -> float:
    return START.timestamp() + 3600 * hours


def test_it_prunes_what_the_configuration_says_and_prints_json(site, capsys):
    config, lab = site
    assert maintain(config, [], as_json=True, now=lambda: later(3)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["volume"] for line in lines} == {"db/data"}
    told = {line["type"]: line["data"] for line in lines}
    assert told["pruned"] == {"points": 4}
    assert told["state"]["points"] == 1
    lab.check_all()  # forgotten, and whole for two more weeks


def test_for_people_it_prints_sentences(site, capsys):
    config, _ = site
    assert maintain(config, ["near"], as_json=False, now=lambda: later(3)) == 0
    out = capsys.readouterr().out
    assert "db/data: 4 points forgotten\n" in out
    assert "state" not in out


def test_a_volume_nobody_configured_loses_no_point(site, capsys):
    config, lab = site
    stranger = config.model_copy(update={"volumes": {}})
    assert maintain(stranger, [], as_json=True, now=lambda: later(300)) == 0
    kinds = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert "pruned" not in kinds
    assert "state" in kinds
    lab.check_all()


@pytest.mark.parametrize("name", ["far", "nowhere"])
def test_a_target_without_a_key_is_refused(site, name):
    with pytest.raises(NotFoundError, match="with a maintenance_key"):
        maintain(site[0], [name], as_json=False)


def test_a_target_that_is_gone_is_told_and_fails(site, tmp_path, capsys):
    (tmp_path / "repo").rename(tmp_path / "away")
    assert maintain(site[0], [], as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["severity"]) == ("maintenance-failed", "error")


def test_a_damaged_newest_point_fails_its_volume_only(site, capsys):
    config, lab = site
    name = lab.kept[-1][0].name
    path = f"{own_directories(config.targets['near'].url)[0]}/{name}"
    with open(path, "r+b") as file:
        file.seek(60)
        file.write(b"\xff\xff")
    assert maintain(config, [], as_json=True, now=lambda: later(1)) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line["type"] == "maintenance-failed" for line in lines)


def test_orders_come_from_the_volume(site):
    orders = orders_for(site[0].volumes["db/data"])
    assert (orders.structure_s, orders.data_per_day) == (7 * 86_400, 0.2)
    assert orders.policy is not None
    assert orders.policy.min_points == 1
    assert orders_for(site[0].volumes["db/logs"]).policy is None
    assert orders_for(None) == Orders()


def test_a_teller_prints_at_once(capsys):
    Teller("db/data", as_json=True)("healed", "well", severity="warning", at=datetime.now(UTC).year)
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["severity"], told["message"]) == ("healed", "warning", "well")
