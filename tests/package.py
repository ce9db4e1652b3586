"""The Debian package, for the tests that install it. Edge."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
BUILD_S_MAX = 1800
VERSION_FILE = "usr/lib/blocksnap/lib/common/blocksnapd/__init__.py"


def run(*argv: str | Path, limit_s: float = 600) -> str:
    """Return what a program says; its failure is the test's, with its words."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=limit_s,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv}: {done.stdout[-3000:]}"
    return done.stdout


def build(path: Path) -> None:
    """Build it, lintian included, as the file ``path``; one build at a time."""
    (PROJECT / "build").mkdir(exist_ok=True)
    with (PROJECT / "build/deb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("make", "-C", PROJECT, "deb", limit_s=BUILD_S_MAX)
        (package,) = (PROJECT / "dist").glob("blocksnap_*.deb")
        shutil.copy(package, path)


def make_later(package: Path, path: Path, version: str) -> None:
    """Make of a package one of a later version, else the same, as the file ``path``."""
    tree = path.with_suffix(".tree")
    run("dpkg-deb", "--raw-extract", package, tree)
    _replace(tree / "DEBIAN/control", r"^Version: .*$", f"Version: {version}")
    _replace(tree / VERSION_FILE, r"^__version__ = .*$", f'__version__ = "{version}"')
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, path)
    shutil.rmtree(tree)


def _replace(file: Path, pattern: str, line: str) -> None:
    text, count = re.subn(pattern, line, file.read_text(), flags=re.MULTILINE)
    assert count == 1, file
    file.write_text(text)
