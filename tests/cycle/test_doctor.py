"""What the doctor reads and says; what it repairs is shown in the lab."""

from __future__ import annotations

import pytest

from blocksnapd.cycle import doctor, volume_repair
from blocksnapd.cycle.lvm_text import VolumeName
from blocksnapd.cycle.volume_repair import Remains
from tests.cycle.test_lvm_text import volume

NAMES = {"/dev/vg/data", "/dev/mapper/vg-data"}
VOLUME = VolumeName("vg", "data")
CLEAN = Remains((), (), (), (), inactive=False, loaded=False, layered=False, unused_real=False)


@pytest.mark.parametrize(
    ("line", "points"),
    [
        ("/dev/vg/data /srv xfs defaults 0 2", ["/srv"]),
        ("/dev/mapper/vg-data /a\\040b xfs defaults", ["/a b"]),
        ("/dev/vg/data /srv xfs defaults,nofail 0 2", []),
        ("/dev/vg/data /srv xfs noauto 0 2", []),
        ("/dev/vg/other /srv xfs defaults 0 2", []),
        ("# /dev/vg/data /srv xfs defaults 0 2", []),
        ("/dev/vg/data", []),
        ("", []),
    ],
)
def test_which_mounts_a_boot_insists_on(line: str, points: list[str]) -> None:
    assert doctor.fstab_waits(f"{line}\n", NAMES) == points


def test_a_clean_volume_has_no_findings() -> None:
    assert volume_repair.findings(VOLUME, CLEAN) == []


def test_each_half_done_state_has_a_finding_that_says_what_follows() -> None:
    remains = Remains(
        ("vg-data",), (volume(lv_attr="-wi-i-----"),), (volume(lv_attr="sri-I-s---"),),
        ("vg-bs_p9-cow",), inactive=False, loaded=True, layered=False, unused_real=False,
    )  # fmt: skip
    found = volume_repair.findings(VOLUME, remains)
    assert [f.code for f in found] == ["SUSPENDED", "HALF", "ORPHAN", "LOADED", "INVALID"]
    assert all(f.what and f.effect and f.fix for f in found)
    assert [f.code for f in found if not f.fixable] == ["INVALID"]
