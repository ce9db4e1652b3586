"""The verb restore: which point, where to, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapctl import restoring
from tests.ctl.calling import call

if TYPE_CHECKING:
    from pathlib import Path


def restored(tmp_path: Path, *words: str) -> str:
    """Return what a restore from a repository without any daemon said."""
    key = tmp_path / "restore.key"
    key.write_text('{"kind": "restore"}')
    found = call("restore", *words, "--to", str(tmp_path / "image"), "--repo", "/srv/repo",
                 "--key", str(key))  # fmt: skip
    assert found.code == 0, found.err
    assert restoring.restore.__doc__
    return found.err


def test_chosen_by_time(tmp_path: Path) -> None:
    said = restored(tmp_path, "vg0/home", "--at", "2026-11-22 14:03")
    assert said.startswith("2026-11-22 14:03 read as 2026-11-22 14:03:00Z; the point is of 14:00")
    assert f"p0002000000000000 of vg0/home, 2026-11-22T14:00:00.000Z → {tmp_path}/image" in said
    (tmp_path / "image").unlink()
    said = restored(tmp_path, "vg0/home", "--before", "2026-11-22 14:04")
    assert said.startswith("before 2026-11-22 14:04 read as 2026-11-22 14:04:00Z; the point is of")
    assert "p0002000000000000 of vg0/home" in said
