"""``volumes`` on the host that the tests run on; the lab shows it on one with LVM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema

from blocksnapd.__main__ import main
from blocksnapd.cycle.block_device import Topology
from tests.test_schemas import shipped

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_form_tells_of_the_same_volumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "no.toml")  # day one: nothing is configured yet
    assert main(["volumes", "--json", "--config", nowhere]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, shipped("host-volumes"))
    names = [v["volume"] for v in document["volumes"]]
    assert not any(v["protected"] for v in document["volumes"])
    assert all(v["toml"] for v in document["volumes"])
    assert main(["volumes", "--plain", "--config", nowhere]) == 0
    assert [x.split("\t")[0] for x in capsys.readouterr().out.splitlines()] == names
    assert main(["volumes", "--config", nowhere]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in names)


def test_a_configured_device_counts_as_protected_and_a_wrong_configuration_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "blocksnap.toml"
    file.write_text("schema = 1\nnonsense = 2\n")
    assert main(["volumes", "--config", str(file)]) == 78
    assert main(["volumes", "--json", "--config", str(tmp_path / "none")]) == 0
    found = json.loads(capsys.readouterr().out)["volumes"]
    if not found:
        return  # a container may see no block device; the lab does
    name = found[0]["volume"]
    target = '[target.t]\nurl = "/srv/r"\nsource_key = "/etc/k"\n'
    file.write_text(f"schema = 1\n{target}{found[0]['toml']}")
    assert main(["volumes", "--json", "--config", str(file)]) == 0
    again = {v["volume"]: v for v in json.loads(capsys.readouterr().out)["volumes"]}
    assert again[name]["protected"]
    assert again[name]["toml"] == ""


def test_what_was_written_is_read_as_the_kernel_counts_it(tmp_path: Path) -> None:
    stat = tmp_path / "dev/block/8:0/stat"
    stat.parent.mkdir(parents=True)
    stat.write_text("  446  229  35618  219  1108  1221  42936  501  0  448  721\n")
    topology = Topology(sys=str(tmp_path))
    assert topology.written("8:0") == 42936 * 512
    assert topology.written("8:1") is None
