"""``volumes`` on a real LVM: what it lists, leaves out, measures, and that its TOML is taken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests.lab.machine import GUEST_DIR
from tests.test_schemas import shipped

if TYPE_CHECKING:
    from tests.conftest import MakeMachine

MIB = 1 << 20

pytestmark = pytest.mark.lab


def test_volumes_are_listed_measured_and_protected_by_what_is_printed(
    make_machine: MakeMachine,
) -> None:
    sizes = [512 * MIB, 512 * MIB, 64 * MIB]
    result = make_machine(sizes).run(GUEST_DIR / "survey.py", blank=True)
    first = result.event("day one")
    document = json.loads(first["said"])
    jsonschema.validate(document, shipped("host-volumes"))
    found = {v["volume"]: v for v in document["volumes"]}
    ours = {name for name in found if "loop" not in name}
    # Neither the snapshot, nor the disks that LVM lies on.
    assert ours == {"vg/data", "vg/idle", "/dev/ubdc"}
    data, idle, disk = found["vg/data"], found["vg/idle"], found["/dev/ubdc"]
    assert (data["size"], data["filesystem"]) == (300 * MIB, "xfs")
    assert data["mounts"]
    assert data["write_rate"] > 4096
    assert data["write_rate_since_boot"] > 0
    assert idle["write_rate"] == 0
    assert (disk["size"], disk["filesystem"], disk["vg"]) == (64 * MIB, "ext4", "")
    assert disk["vg_free"] is None
    assert 150 * MIB < data["vg_free"] < 212 * MIB
    assert data["cow_free"] > 0
    assert not any(v["protected"] for v in found.values())
    assert "[cow.vg]" in data["toml"]
    assert "[cow.vg]" not in idle["toml"]  # what is pasted for one serves the other
    assert '[volume."/dev/ubdc"]\ndriver = "scan"' in disk["toml"]
    assert '[volume."vg/data"]' in first["page"]
    second = result.event("pasted")
    by_name = {v["volume"]: v for v in json.loads(second["said"])["volumes"]}
    assert by_name["vg/data"]["protected"]
    assert by_name["vg/data"]["toml"] == ""
    assert not by_name["vg/idle"]["protected"]
    fields = [line.split("\t") for line in second["plain"].splitlines()]
    assert [line[6] for line in fields if line[0] == "vg/data"] == ["yes"]
    assert result.event("unchanged")["same"]
