"""Who uses what, on real loop devices and real processes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from blocksnapd.restore import device_use
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device, mounted

if TYPE_CHECKING:
    from pathlib import Path

MOUNTINFO = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 8:17 / /srv/with\040space rw shared:1 - xfs /dev/sdb1 rw
24 22 8:17 /sub /mnt/again rw - xfs /dev/sdb1 rw
25 22 0:21 / /proc rw - proc proc rw
"""
SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/dm-1                               partition\t1000\t0\t-2
/var/swap\\040file                       file\t\t1000\t0\t-3
"""


def test_mounts_of_one_device_are_found_with_their_real_names() -> None:
    assert device_use.parse_mounts(MOUNTINFO, "8:17") == ["/srv/with space", "/mnt/again"]
    assert device_use.parse_mounts(MOUNTINFO, "8:2") == []


def test_swaps_are_found_with_their_real_names() -> None:
    assert device_use.parse_swaps(SWAPS) == ["/dev/dm-1", "/var/swap file"]
    assert device_use.parse_swaps("") == []


def test_an_unused_file_and_device_have_no_users(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(b"x")
    assert device_use.users(str(path)) == []
    with loop_device(tmp_path, MIB) as device:
        assert device_use.users(device) == []


def test_a_file_under_a_loop_device_is_in_use(tmp_path: Path) -> None:
    with loop_device(tmp_path, MIB) as device:
        assert device_use.users(str(tmp_path / f"loop-{MIB}.img")) == [f"attached to {device}"]


def test_a_mounted_device_is_in_use_and_says_where(tmp_path: Path) -> None:
    with loop_device(tmp_path, 8 * MIB) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True, timeout=30)
        with mounted(device, tmp_path / "place"):
            assert device_use.users(device) == [f"mounted at {tmp_path}/place"]
        assert device_use.users(device) == []


def test_a_program_that_writes_to_a_device_is_named_and_a_reader_is_not(tmp_path: Path) -> None:
    program = "import sys; f = open(sys.argv[1], sys.argv[2]); print('open', flush=True); input()"
    with loop_device(tmp_path, MIB) as device:
        for mode in ("rb", "r+b"):
            with subprocess.Popen(
                [sys.executable, "-c", program, device, mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                users = device_use.users(device)
                process.communicate(b"\n", timeout=30)
            expected = f"(process {process.pid})"
            assert [u.endswith(expected) for u in users] == ([True] if mode == "r+b" else [])
