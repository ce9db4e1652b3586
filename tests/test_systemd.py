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
EXPOSURE_MAX = 4.0

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
    """The unit with a program that exists here, as systemd-analyze looks for it."""
    text = (UNITS / "blocksnapd.service").read_text()
    for program in ("/usr/bin/blocksnapd", "/usr/bin/blocksnapctl"):
        text = text.replace(program, "/bin/true")
    (tmp_path / "blocksnapd.service").write_text(text)
    shutil.copy(UNITS / "blocksnapd.socket", tmp_path)
    return tmp_path


@needs_systemd
def test_the_units_are_in_order(installed: Path) -> None:
    for unit in ("blocksnapd.service", "blocksnapd.socket"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(installed / unit)],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        ours = [line for line in done.stderr.splitlines() if "blocksnapd" in line]
        assert (done.returncode, ours) == (0, [])


@needs_systemd
def test_the_sandbox_is_tight(installed: Path) -> None:
    """Peers score 9.6, 9.2, 6.7 and 2.9; less is better."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager",
         str(installed / "blocksnapd.service")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


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
    assert f"ListenStream={DEFAULT_SOCKET}" in (UNITS / "blocksnapd.socket").read_text()
    for folder in ("sysusers.d", "tmpfiles.d", "modules-load.d"):
        assert (UNITS / folder / "blocksnap.conf").is_file()
