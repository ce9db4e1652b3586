"""The day it is for: the host is gone, what is left is the repository and the key."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from blocksnapd.store.init import init_repository
from tests.flow.kit import LIMIT_S, MIB, Site
from tests.flow.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSPHRASE = "correct horse battery staple"


class Left(NamedTuple):
    """What somebody has who stands before a bare machine: and what must come back."""

    folder: Path
    repository: Path
    key: Path
    volume: str
    first: bytes
    second: bytes

    @property
    def env(self) -> dict[str, str]:
        """A home that was never used, and nothing in the environment that tells of any host."""
        (self.folder / "home").mkdir(exist_ok=True)
        names = ("PATH", "LANG", "COVERAGE_PROCESS_START")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return {**kept, "HOME": str(self.folder / "home"), "TERM": "vt100", "TZ": "UTC"}

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one command beside the key; it must go well."""
        found = subprocess.run(
            [sys.executable, "-P", "-m", "blocksnapctl", *words, "--repo", str(self.repository),
             "--key", self.key.name],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False,
            env=self.env, cwd=self.folder,
        )  # fmt: skip
        assert found.returncode == 0, found
        assert "Traceback" not in found.stderr
        return found


@pytest.fixture(params=[None])
def left(site: Site, request: pytest.FixtureRequest) -> Iterator[Left]:
    """Protect a volume twice, then take everything away; the parameter seals the key."""
    site.write_image((0, os.urandom(2 * MIB)), size=4 * MIB)
    site.write_config()
    init_repository(str(site.repository), str(site.keys), request.param)
    first = site.image.read_bytes()
    site.start()
    site.until_done()
    site.write_image((MIB, b"later" * 5000))
    site.run()
    second = site.image.read_bytes()
    site.end()
    folder = site.folder.with_suffix(".away")
    folder.mkdir()
    repository, key = folder / "vault", folder / "restore.key"
    shutil.move(site.repository, repository)
    shutil.move(site.keys / "restore.key", key)
    volume = str(site.image)
    for found in site.folder.iterdir():
        shutil.rmtree(found) if found.is_dir() else found.unlink()
    yield Left(folder, repository, key, volume, first, second)
    shutil.rmtree(folder)


def restored(left: Left) -> bytes:
    to = left.folder / "back.img"
    found = to.read_bytes()
    to.unlink()
    return found


@pytest.mark.parametrize("left", [PASSPHRASE], indirect=True)
def test_being_guided_gets_every_byte_back(left: Left) -> None:
    (left.folder / "pass").write_text(PASSPHRASE)
    points = left.ctl("points", "--plain", "--passphrase-file", "pass").stdout.splitlines()
    oldest = points[0].split()[0]
    assert len(points) == 2
    with Terminal("restore", env=left.env, cwd=str(left.folder)) as terminal:
        terminal.answer("Repository:", "vault")
        terminal.answer("Key [restore.key]:", "")
        terminal.answer("Passphrase of", "a wrong one")
        terminal.answer(f"Repository [{left.repository}]:", "")
        terminal.answer(f"Key [{left.key}]:", "")
        terminal.answer("Passphrase of", PASSPHRASE)
        terminal.answer(f"Volume [{left.volume}]:", "1")
        terminal.answer("Time or id [latest]:", oldest[:8])
        terminal.answer(f"Restore {oldest}? [Y/n]", "")
        terminal.answer("Restore to:", "back.img")
        assert not os.listdir(left.folder / "home")
        assert not (left.folder / "back.img").exists()
        terminal.answer("Write it now? [y/N]", "y")
        assert terminal.end() == 0, terminal.said
    assert terminal.said.count("Passphrase of") == 2
    assert PASSPHRASE not in terminal.said
    assert restored(left) == left.first
    shown = next(line for line in terminal.said.splitlines() if "restore p" in line)
    left.ctl(*shlex.split(shown)[1:], "--passphrase-file", "pass")
    assert restored(left) == left.first


def test_typing_gets_every_byte_back(left: Left) -> None:
    """With the key file alone: points, verify, restore, and a disk at once."""
    assert left.volume in left.ctl("points").stdout
    left.ctl("verify")
    left.ctl("restore", f"{left.volume}@latest", "--to", "back.img")
    assert restored(left) == left.second
    done = left.ctl("export", f"{left.volume}@latest", "--detach", "--unix", "back.nbd")
    try:
        subprocess.run(["nbdcopy", done.stdout.strip(), "back.img"], check=True, cwd=left.folder)
    finally:
        subprocess.run(
            [sys.executable, "-P", "-m", "blocksnapctl", "cancel", done.stderr.split()[-1]],
            env=left.env, check=True, capture_output=True,
        )  # fmt: skip
    assert restored(left) == left.second
