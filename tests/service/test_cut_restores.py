"""What the doctor tells of journals that a killed restore left, and of those it had better not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from blocksnapd.restore.journal import JOURNAL_SUFFIX, Journal
from blocksnapd.service.cut_restores import cut_restores

if TYPE_CHECKING:
    from pathlib import Path


def test_a_journal_that_was_left_is_told_with_its_point_device_and_file(tmp_path: Path) -> None:
    path = str(tmp_path / f"a b{JOURNAL_SUFFIX}")
    Journal(path, {"point": "p1", "to": "/dev/vg/back"}).start()
    (found,) = cut_restores(str(tmp_path))
    assert (found.code, found.fixable) == ("RESTORE-CUT", False)
    assert "p1 to /dev/vg/back" in found.what
    assert f"rm '{path}'" in found.fix
    Journal(path, {}).remove()
    assert cut_restores(str(tmp_path)) == []


def test_what_is_no_journal_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / f"whole{JOURNAL_SUFFIX}"
    Journal(str(path), {"point": "p1", "to": "/dev/x"}).start()
    whole = path.read_bytes()
    shutil.copy(path, tmp_path / "other.name")
    for number, damaged in enumerate((b"", whole[1:], whole[:20], b"BSRESUME1 [1]\n",
                                      b'BSRESUME1 {"to": 7}\n', b"BSRESUME1 \xff\n",
                                      b"BSRESUME1 " + b"[" * 60_000)):  # fmt: skip
        (tmp_path / f"{number}{JOURNAL_SUFFIX}").write_bytes(damaged)
    (tmp_path / f"directory{JOURNAL_SUFFIX}").mkdir()
    (tmp_path / f"link{JOURNAL_SUFFIX}").symlink_to(path)
    assert len(cut_restores(str(tmp_path))) == 1
    assert cut_restores(str(tmp_path / "none")) == []
