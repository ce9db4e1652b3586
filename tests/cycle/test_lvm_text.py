"""lvm2's command lines and reports, against reports recorded from lvm2 2.03.16."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.cycle import lvm_text
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.errors import LvmError, UsageError

GROUP = {
    "vg_name": "vg", "vg_uuid": "bwHGGl-p0t1-GdOl-p65b-pXhB-hrBz-7UAHiq",
    "vg_size": "4286578688", "vg_free": "3611295744", "vg_extent_size": "4194304",
    "vg_missing_pv_count": "0", "vg_tags": "",
}  # fmt: skip
ORIGIN = {
    "lv_name": "root", "lv_uuid": "CleQYZ-loQK-K71t-hMKy-y0ab-fKzC-Sah3lG",
    "lv_attr": "owi-aos---", "lv_size": "335544320", "origin": "", "lv_snapshot_invalid": "-1",
    "lv_role": "public,origin,thickorigin", "lv_tags": "", "lv_kernel_major": "254",
    "lv_kernel_minor": "0",
}  # fmt: skip
SNAPSHOT = {
    **ORIGIN, "lv_name": "bs_p1", "lv_uuid": "xcmBFm-iSgk-Brlx-0vMS-Kzjj-oRj8-Xia0hU",
    "lv_attr": "sri-a-s---", "lv_size": "339738624", "origin": "root",
    "lv_snapshot_invalid": "0", "lv_role": "public,snapshot,thicksnapshot",
    "lv_tags": f"blocksnap,blocksnap.volume={ORIGIN['lv_uuid']},blocksnap.point=p1",
    "lv_kernel_minor": "3",
}  # fmt: skip
COW_DISK = {
    "pv_name": "/dev/loop0", "pv_uuid": "Mvx02K-mlZB-yDZr-eZ0z-sqXs-5SDA-Dir2hh",
    "pv_size": "834666496", "pv_free": "801112064", "pv_used": "33554432",
    "pv_tags": "blocksnap_cow", "pv_missing": "0",
}  # fmt: skip
WHOLE = (8192, 339738624)


def report(*rows: dict[str, str], kind: str = "lv") -> str:
    return json.dumps({"report": [{kind: list(rows)}]})


def full_report(*volumes: dict[str, str], groups: tuple[dict[str, str], ...] = (GROUP,)) -> str:
    parts = {"vg": list(groups), "pv": [COW_DISK], "lv": list(volumes), "pvseg": [], "seg": []}
    return json.dumps({"report": [parts]})


def volume(**changed: str) -> lvm_text.LogicalVolume:
    return lvm_text.parse_group(full_report({**SNAPSHOT, **changed})).volumes[0]


def test_a_recorded_report_becomes_typed_rows() -> None:
    group = lvm_text.parse_group(full_report(ORIGIN, SNAPSHOT))
    origin, snapshot = group.volumes
    assert (origin.size, origin.devno, origin.origin) == (335544320, (254, 0), "")
    assert (origin.vg, origin.vg_uuid, origin.extent_size) == ("vg", GROUP["vg_uuid"], 4194304)
    assert (snapshot.size, snapshot.devno, snapshot.origin) == (339738624, (254, 3), "root")
    (place,) = group.physical_volumes
    assert (place.name, place.vg, place.tags) == ("/dev/loop0", "vg", ("blocksnap_cow",))
    assert snapshot.is_ours
    assert snapshot.tag_value(lvm_text.TAG_POINT) == "p1"
    assert lvm_text.snapshots_of([origin, snapshot], origin) == [snapshot]
    assert lvm_text.foreign_snapshots([origin, snapshot], origin) == []


def test_an_inactive_volume_has_no_device_number() -> None:
    row = volume(lv_attr="swi---s---", lv_kernel_major="-1", lv_kernel_minor="-1")
    assert row.devno is None
    assert not row.active


@pytest.mark.parametrize(
    ("changed", "numbers", "state"),
    [
        ({}, WHOLE, "good"),
        ({}, None, "half"),  # the LV exists, but its status is no number
        ({"lv_attr": "sri-I-s---", "lv_snapshot_invalid": "1"}, None, "invalid"),
        ({"lv_attr": "sri-a-s---", "lv_snapshot_invalid": "1"}, None, "invalid"),
        ({"lv_attr": "sri-i-s---"}, WHOLE, "half"),
        ({"lv_attr": "sri-s-s---"}, WHOLE, "half"),
        ({"lv_attr": "-wi-i-----", "origin": ""}, None, "half"),
        ({"lv_attr": "-ri-------", "origin": ""}, None, "half"),
    ],
)
def test_a_snapshot_counts_only_when_the_kernel_says_so(
    changed: dict[str, str], numbers: tuple[int, int] | None, state: str
) -> None:
    assert lvm_text.seen(volume(**changed), numbers).state == state


@pytest.mark.parametrize("first", "VtdsSOpveTiIl")
def test_no_classic_snapshot_of_what_is_no_plain_volume(first: str) -> None:
    assert lvm_text.unsuitable(volume(lv_attr=f"{first}wi-a-----"))


@pytest.mark.parametrize("first", "-orRmMC")
def test_plain_and_mirrored_volumes_may_be_origins(first: str) -> None:
    assert lvm_text.unsuitable(volume(lv_attr=f"{first}wi-a-----")) == ""


def test_groups_and_physical_volumes() -> None:
    vg = {**GROUP, "vg_missing_pv_count": "1", "vg_tags": "a,b"}
    (group,) = lvm_text.parse_vgs(report(vg, kind="vg"))
    (place,) = lvm_text.parse_pvs(report({**COW_DISK, "vg_name": "vg"}, kind="pv"))
    assert (group.missing_pvs, group.tags) == (1, ("a", "b"))
    assert (place.tags, place.missing) == (("blocksnap_cow",), False)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"report": 3}', '{"report": [{"lv": 3}]}', '{"report": [{"lv": [3]}]}',
     '{"report": [{"vg": []}]}', report(ORIGIN), report(GROUP, kind="vg"), full_report({}),
     full_report({**ORIGIN, "lv_size": "2.89g"}), full_report({**ORIGIN, "lv_attr": "ow"}),
     full_report(groups=()), full_report(groups=(GROUP, GROUP)), "[" * 100000],
)  # fmt: skip
def test_a_damaged_report_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(LvmError):
        lvm_text.parse_group(text)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.fixed_dictionaries({"report": JSON}) | JSON)
def test_any_json_gives_rows_or_the_documented_error(value: Any) -> None:
    for parse in (lvm_text.parse_group, lvm_text.parse_vgs, lvm_text.parse_pvs):
        try:
            parse(json.dumps(value))
        except LvmError:
            continue


def test_what_lvcreate_is_asked() -> None:
    argv = lvm_text.create_argv(
        VolumeName("vg", "root"), volume_uuid="u-1", point_id="p1", chunk_size=4096, size=100,
        places=("@blocksnap_cow",), udev=True,
    )  # fmt: skip
    assert argv[0] == "lvcreate"
    assert argv[-2:] == ["vg/root", "@blocksnap_cow"]
    for option, value in (
        ("--permission", "r"), ("--chunksize", "4096b"), ("--size", "100b"), ("--name", "bs_p1"),
        ("--autobackup", "n"),
    ):  # fmt: skip
        assert argv[argv.index(option) + 1] == value
    tags = [argv[at + 1] for at, word in enumerate(argv) if word == "--addtag"]
    assert tags == ["blocksnap", "blocksnap.volume=u-1", "blocksnap.point=p1"]
    assert "monitoring=0" in argv[argv.index("--config") + 1]


def test_removal_gives_space_back_and_asks_nobody() -> None:
    argv = lvm_text.remove_argv("vg", "bs_p1", udev=False)
    settings = argv[argv.index("--config") + 1]
    assert "-y" in argv
    assert "issue_discards=1" in settings
    assert "udev_sync=0" in settings


@pytest.mark.parametrize("bad", ["", "a-b", "a/b", "a b", "x" * 101, "@a", "é"])
def test_a_point_id_that_could_be_something_else_names_no_snapshot(bad: str) -> None:
    with pytest.raises(ValueError):
        lvm_text.snapshot_name(bad)


@pytest.mark.parametrize("text", ["vg-a/my-lv", "/dev/vg-a/my-lv", "/dev/mapper/vg--a-my--lv"])
def test_a_volume_has_several_spellings(text: str) -> None:
    name = VolumeName.parse(text)
    assert str(name) == "vg-a/my-lv"
    assert name.dm == "vg--a-my--lv"


@pytest.mark.parametrize(
    "text", ["", "vg", "vg/", "/lv", "a/b/c", "-vg/lv", "vg/..", "v g/l", "a/b;c"]
)
def test_what_is_no_volume_name(text: str) -> None:
    with pytest.raises(UsageError):
        VolumeName.parse(text)
