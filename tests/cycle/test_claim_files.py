"""The record and its lists on a disk that is damaged or full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from blocksnapd.cycle.claim_files import ClaimFiles
from blocksnapd.cycle.claims import Claim, Record
from blocksnapd.errors import HostError, StateError
from blocksnapd.model import Extents

if TYPE_CHECKING:
    from pathlib import Path

CHANGED = Extents(np.array([4096], dtype=np.uint64), np.array([8192], dtype=np.uint64))


def test_lists_grow_and_the_ones_before_go(tmp_path: Path) -> None:
    files, made = ClaimFiles(str(tmp_path)), {}
    files.load()
    assert files.record == Record("")
    name = files.longer(Claim("p", "s"), CHANGED, made)
    assert name is not None
    assert files.longer(Claim("q", "s"), CHANGED, made) == name  # written once for both
    record = Record("v", lanes={"a": (Claim("p", "s", is_exact=False, owed=name),)})
    files.keep(record)
    (claim,) = record.lanes["a"]
    longer = files.longer(claim, Extents(CHANGED.starts * 4, CHANGED.ends * 4), {})
    assert longer is not None
    assert files.owed(Claim("p", "s", owed=longer)).size == 5 * 4096
    files.remove_unused()
    again = ClaimFiles(str(tmp_path))
    again.load()
    assert again.record == record
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "shared"]
    assert again.owed(claim).size == 4096


def test_what_is_damaged_is_lost_and_no_more(tmp_path: Path) -> None:
    files = ClaimFiles(str(tmp_path))
    files.keep(Record("v"))
    (tmp_path / "shared").write_bytes(b"rubbish")
    (tmp_path / "owed-1").write_bytes(b"rubbish")
    fresh = ClaimFiles(str(tmp_path))
    with pytest.raises(StateError):
        fresh.load()
    assert fresh.record == Record("")
    for name in ("owed-1", "owed-2"):
        assert files.longer(Claim("p", "s", owed=name), CHANGED, {}) is None


def test_a_disk_that_fails_changes_nothing(tmp_path: Path) -> None:
    files = ClaimFiles(str(tmp_path / "gone"))
    with pytest.raises(HostError):
        files.keep(Record("v"))
    with pytest.raises(HostError):
        files.longer(Claim("p", "s"), CHANGED, {})
    assert files.record == Record("")
