"""Restored images under real checkers: sound ones, broken ones, and what is no file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from blocksnapd.service.drill_steps import check_by_user, check_file_system

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
LIMIT_S = 60.0


def made(kind: str, path: Path) -> str:
    """Make a file system in a file, with the real tool."""
    size, argv = {
        "ext4": (16 * MIB, ["mkfs.ext4", "-qF"]),
        "xfs": (300 * MIB, ["mkfs.xfs", "-qf"]),
    }[kind]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run([*argv, str(path)], check=True, capture_output=True)
    return str(path)


def damage(image: str, offset: int, length: int) -> None:
    with open(image, "r+b") as file:
        file.seek(offset)
        file.write(os.urandom(length))


@pytest.mark.parametrize(("kind", "tool"), [("ext4", "e2fsck"), ("xfs", "xfs_repair")])
async def test_a_sound_file_system_passes(kind: str, tool: str, tmp_path: Path) -> None:
    step = await check_file_system(made(kind, tmp_path / "image"), LIMIT_S)
    assert (step["name"], step["result"], step["found"]) == ("fsck", "success", [])
    assert tool in step["method"]


@pytest.mark.parametrize(("kind", "at"), [("ext4", 40 * 1024), ("xfs", 4096)])
async def test_a_broken_one_fails_and_says_what_was_found(
    kind: str, at: int, tmp_path: Path
) -> None:
    image = made(kind, tmp_path / "image")
    damage(image, at, 64 * 1024)
    step = await check_file_system(image, LIMIT_S)
    assert step["result"] == "failed"
    assert step["found"]
    assert all(line.isprintable() and len(line) <= 300 for line in step["found"])


def said(*argv: str, typed: str = "") -> str:
    return subprocess.run(argv, input=typed, capture_output=True, text=True, check=True).stdout


async def test_a_journal_is_replayed_before_the_check(tmp_path: Path) -> None:
    image = made("ext4", tmp_path / "image")
    said("debugfs", "-w", "-f", "/dev/stdin", image, typed="jo\njw -b 5 /dev/zero\njc\nquit\n")
    assert "needs_recovery" in said("dumpe2fs", "-h", image)
    await check_file_system(image, LIMIT_S)
    assert "needs_recovery" not in said("dumpe2fs", "-h", image)


async def test_what_has_no_checker_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(8192))
    step = await check_file_system(str(tmp_path / "image"), LIMIT_S)
    assert step["result"] == "skipped"


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_a_checker_that_is_not_installed_proves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = made(kind, tmp_path / "image")

    def missing(*argv: object, **_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("blocksnapd.runtime.process.run", missing)
    step = await check_file_system(image, LIMIT_S)
    assert step["result"] == "warning"
    assert "cannot be run" in step["found"][0]


async def test_the_operators_check_passes_with_status_0(tmp_path: Path) -> None:
    told = {"BLOCKSNAP_POINT": "p1"}
    step = await check_by_user(["/bin/sh", "-c", 'echo "$BLOCKSNAP_POINT"'], told, LIMIT_S)
    assert (step["result"], step["found"]) == ("success", ["p1"])
    step = await check_by_user(["/bin/sh", "-c", "echo \x1bbad; exit 3"], told, LIMIT_S)
    assert (step["result"], step["found"]) == ("failed", ["exit status 3", "�bad"])
    step = await check_by_user([str(tmp_path / "none")], told, LIMIT_S)
    assert step["result"] == "failed"
    step = await check_by_user(["sleep", "60"], told, 0.05)
    assert step["result"] == "failed"
    assert "did not end" in step["found"][-1]
