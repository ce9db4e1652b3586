"""What cut-off commands left in a volume group, and that what is under way is not called so."""

from __future__ import annotations

import pytest

from blocksnapd.cycle import leftovers
from blocksnapd.cycle.lvm_text import VolumeName
from tests.cycle.test_lvm_text import volume

VOLUME = VolumeName("vg", "root")
SHOWN = "/dev/mapper/blocksnap-view-vg-root-p1"


def told(shown: str = "", **changed: str) -> list[str]:
    rows = [volume(), volume(lv_name="root", lv_tags="", origin=""), volume(**changed)]
    found = leftovers.examine(VOLUME, rows, lambda path: path == shown)
    assert all(f.what and f.effect and f.fix and not f.fixable for f in found)
    return [f.code for f in found]


@pytest.mark.parametrize(("attr", "code"), [("-wi-a-----", "UNFINISHED"),
                                            ("-wi-ao----", "RESTORING")])  # fmt: skip
def test_a_volume_of_a_restore(attr: str, code: str) -> None:
    assert told(lv_name="back", lv_tags="blocksnap.unfinished", origin="", lv_attr=attr) == [code]


@pytest.mark.parametrize(
    ("attr", "tags", "codes"),
    [
        ("-wi-a-----", "blocksnap_merge=root", ["MERGE-CUT"]),  # made, and nothing more
        ("swi-a-s---", "blocksnap_merge=root", ["MERGE-CUT"]),  # converted, not begun
        ("-wi-ao----", "blocksnap_merge=root", []),  # it is being written
        ("Swi-aos---", "blocksnap_merge=root", []),  # the kernel merges it
        ("-wi-a-----", "blocksnap_merge=other", []),  # that one's own doctor tells
        ("-wi-a-----", "", []),
    ],
)
def test_a_merge(attr: str, tags: str, codes: list[str]) -> None:
    assert told(lv_name="bsmerge_p1", lv_tags=tags, origin="", lv_attr=attr) == codes


@pytest.mark.parametrize(
    ("shown", "attr", "codes"),
    [
        ("", "sri-a-s---", ["VIEW-CUT"]),
        (SHOWN, "sri-aos---", []),
        ("", "sri-aos---", []),  # it is being read
    ],
)
def test_a_view(shown: str, attr: str, codes: list[str]) -> None:
    name = {"lv_name": "bsview_p1", "lv_tags": "blocksnap_view"}
    assert told(shown, **name, origin="root", lv_attr=attr) == codes
    assert told(shown, **name, origin="other", lv_attr=attr) == []
