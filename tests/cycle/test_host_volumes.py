"""The host's volumes, from reports recorded with util-linux 2.38.1 and lvm2 2.03.16."""

from __future__ import annotations

import json
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.config import load
from blocksnapd.cycle import host_volumes, lvm_text
from blocksnapd.cycle.host_volumes import HostVolume, parse_lsblk, toml, volumes_of
from blocksnapd.errors import HostError
from tests.cycle.test_lvm_text import ORIGIN, SNAPSHOT, full_report

if TYPE_CHECKING:
    from pathlib import Path


def row(path: str, kind: str, devno: str, **more: Any) -> dict[str, Any]:
    return {
        "path": path, "type": kind, "size": 1 << 30, "fstype": None, "mountpoints": [None],
        "maj:min": devno, "ro": False, **more,
    }  # fmt: skip


def lsblk(*rows: dict[str, Any]) -> str:
    return json.dumps({"blockdevices": list(rows)})


def names(*rows: dict[str, Any]) -> list[str]:
    return [v.name for v in volumes_of(parse_lsblk(lsblk(*rows)), [])]


def test_only_what_holds_data_by_itself_is_a_volume() -> None:
    raid = row("/dev/md0", "raid1", "9:0", fstype="xfs", mountpoints=["/srv", "/mnt"])
    assert names(
        row("/dev/sda", "disk", "8:0", children=[
            row("/dev/sda1", "part", "8:1", fstype="ext4", mountpoints=["/"]),
            row("/dev/sda2", "part", "8:2", fstype="swap", mountpoints=["[SWAP]"]),
            row("/dev/sda3", "part", "8:3", fstype="crypto_LUKS", children=[
                row("/dev/mapper/home", "crypt", "254:0", fstype="ext4"),
            ]),
            row("/dev/sda4", "part", "8:4", fstype="linux_raid_member", children=[raid]),
        ]),
        row("/dev/sdb", "disk", "8:16", fstype="linux_raid_member", children=[raid]),
        row("/dev/sdc", "disk", "8:32", fstype="LVM2_member", children=[
            row("/dev/mapper/vg-root", "lvm", "254:1", fstype="xfs"),
        ]),
        row("/dev/sdd", "disk", "8:48"),
        row("/dev/sr0", "rom", "11:0"),
        row("/dev/loop0", "loop", "7:0"),
        row("/dev/zram0", "disk", "253:0", size=0),
        row("/dev/sde", "disk", "8:64", ro=True),
    ) == ["/dev/mapper/home", "/dev/md0", "/dev/sda1", "/dev/sdd"]  # fmt: skip


def test_logical_volumes_come_with_what_lies_on_them_but_no_snapshots() -> None:
    other = {**ORIGIN, "lv_name": "view", "lv_tags": "blocksnap"}
    hidden = {**ORIGIN, "lv_name": "[pool_tdata]", "lv_role": "private,thin,pool,data"}
    thin = {**ORIGIN, "lv_name": "a-thin", "lv_attr": "Vwi-a-tz--", "lv_kernel_minor": "9"}
    logical = lvm_text.parse_group(full_report(ORIGIN, SNAPSHOT, other, hidden, thin)).volumes
    device = row("/dev/mapper/vg-root", "lvm", "254:0", fstype="xfs", mountpoints=["/srv"])
    found = volumes_of(parse_lsblk(lsblk(device)), logical)
    assert [v.name for v in found] == ["vg/a-thin", "vg/root"]
    assert (found[1].fstype, found[1].mounts, found[1].devno) == ("xfs", ("/srv",), "254:0")
    assert (found[0].devno, found[0].no_snapshot) == ("", "is a thin volume")


PLACE = '[target.t]\nurl = "/srv/r"\nsource_key = "/etc/k"\n'


@pytest.mark.parametrize("vg", ["vg0", "VG_data.1", "a" * 60, "+++"])
@pytest.mark.parametrize("no_snapshot", ["", "is a thin volume"])
def test_what_is_to_be_pasted_is_taken(tmp_path: Path, vg: str, no_snapshot: str) -> None:
    name = f"{vg}/home"
    volume = HostVolume(name, f"/dev/{name}", "254:0", 1 << 30, "xfs", (), vg, no_snapshot)
    file = tmp_path / "blocksnap.toml"
    text = toml(volume, rate=2 << 20, spaces=())
    assert ("written in 5 minutes" in text) == (not no_snapshot)
    file.write_text(f"schema = 1\n{PLACE}{text}")
    config = load(str(file))
    found = config.volumes[f"/dev/{name}" if no_snapshot else name]
    assert found.driver == ("scan" if no_snapshot else "lvm")
    again = toml(volume, rate=0.0, spaces={vg})
    assert "[cow." not in again


@given(st.text(st.characters(min_codepoint=33, exclude_characters="/", codec="utf-8"), min_size=1))
def test_any_name_of_a_device_gives_a_table_of_that_name(name: str) -> None:
    path = f"/dev/{name}"
    text = toml(HostVolume(path, path, "8:0", 1, "", ()), rate=0.0, spaces=())
    if name.isprintable():
        assert list(tomllib.loads(text)["volume"]) == [path]


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(),
       lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(
           ["blockdevices", "path", "children", "size"]), inner)).map(json.dumps)))  # fmt: skip
def test_other_reports_are_refused_as_such(text: str) -> None:
    with suppress(HostError):
        assert isinstance(parse_lsblk(text), list)


def test_a_report_that_nests_without_end_is_refused() -> None:
    deep = row("/dev/sda", "disk", "8:0")
    for _ in range(host_volumes.DEPTH_MAX + 1):
        deep = row("/dev/sda", "disk", "8:0", children=[deep])
    with pytest.raises(HostError, match="deep"):
        parse_lsblk(lsblk(deep))
