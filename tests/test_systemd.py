"""The units, judged by systemd itself."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from blocksnapd.control.messages import DEFAULT_CONFIG, DEFAULT_SOCKET, EXIT_CONFIG

UNITS = Path(__file__).parent.parent / "systemd"
EXPOSURE_MAX = 3.0
SERVICES = ("blocksnapd", "blocksnapd-receive")
GENERATOR = UNITS / "system-generators/blocksnap-cow-generator"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)"
)


def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / "blocksnapd.service")
    return parser["Service"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with a program that exists here, as systemd-analyze looks for it."""
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        text = re.sub("/usr/bin/blocksnap(d|ctl)", "/bin/true", unit.read_text())
        (tmp_path / unit.name.replace("@.", "@name.")).write_text(text)
    return tmp_path


@needs_systemd
def test_the_units_are_in_order(installed: Path) -> None:
    units = sorted(map(str, installed.iterdir()))
    assert len(units) == 4
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "blocksnap" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_the_sandbox_is_tight(installed: Path, name: str) -> None:
    """Peers score 9.6, 9.2, 6.7 and 2.9; less is better."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager",
         str(installed / f"{name}.service")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


def generated(folder: Path, config: str) -> dict[str, str]:
    """Run the generator as systemd does; return what it wrote: relative path → text or target."""
    (folder / "blocksnap.toml").write_text(config)
    normal = folder / "normal"
    normal.mkdir()
    subprocess.run(
        [GENERATOR, normal, folder / "early", folder / "late"], check=True, timeout=60,
        env={"BLOCKSNAP_CONFIG": str(folder / "blocksnap.toml")},
    )  # fmt: skip
    return {
        str(path.relative_to(normal)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        for path in sorted(normal.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_each_cow_space_is_attached_after_the_mount_of_its_file(tmp_path: Path) -> None:
    config = """
        [cow.spare-disk]
        file = "/mnt/a b/100%.img"
        vg = "vg0"
        [cow.strange]
        file = "relative"
        vg = "vg0"
        [cow.hostile]
        file = "/x"
        vg = "vg0\\nExecStart=/bin/false"
    """
    unit = "blocksnap-cow@spare-disk.service"
    assert generated(tmp_path, config) == {
        f"{unit}.d/place.conf": '[Unit]\nRequiresMountsFor="/mnt/a b"\n'
        "[Service]\nExecStartPost=-/sbin/vgchange -aay vg0\n",
        f"local-fs.target.wants/{unit}": "/usr/lib/systemd/system/blocksnap-cow@.service",
    }


@pytest.mark.parametrize("config", ["", "[cow", "cow = 1", "[cow]\nx = 1\n[cow.y]\nfile = 7"])
def test_a_configuration_that_cannot_be_read_never_stops_a_boot(
    tmp_path: Path, config: str
) -> None:
    assert generated(tmp_path, config) == {}


def test_an_origin_never_stays_suspended() -> None:
    """What stops the daemon spares the guard, and what half-done is left gets repaired."""
    unit = service()
    assert unit["KillMode"] == "process"
    assert "doctor --fix" in unit["ExecStopPost"]
    assert "PrivateIPC" not in unit


def test_the_unit_agrees_with_the_program() -> None:
    unit = service()
    assert unit["RestartPreventExitStatus"] == str(EXIT_CONFIG)
    assert DEFAULT_CONFIG in unit["ExecStart"]
    assert f"/run/{unit['RuntimeDirectory']}/control.sock" == DEFAULT_SOCKET
    assert f'CONFIG = "{DEFAULT_CONFIG}"' in GENERATOR.read_text()
    assert f"ListenStream={DEFAULT_SOCKET}" in (UNITS / "blocksnapd.socket").read_text()
    for folder in ("sysusers.d", "tmpfiles.d", "modules-load.d"):
        assert (UNITS / folder / "blocksnap.conf").is_file()
