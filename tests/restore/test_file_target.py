"""A file under restoration: what its directory shows at each moment."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import BusyError, HostError, RefusedError
from blocksnapd.model import Extents
from blocksnapd.restore.file_target import PARTIAL_SUFFIX, FileTarget
from blocksnapd.runtime import durable
from blocksnapd.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

GAPS = Extents.whole(0)


def fill(target: FileTarget, size: int = MIB) -> None:
    target.clear(size, [GAPS], lambda _: None)
    target.write(4096, memoryview(b"x" * 100))
    target.sync()


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_the_name_comes_with_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "new"
    target = FileTarget(str(path), replaces=False)
    fill(target)
    assert names(tmp_path) == ["new" + PARTIAL_SUFFIX]
    target.finish()
    assert names(tmp_path) == ["new"]
    target.abandon()
    assert path.read_bytes() == bytes(4096) + b"x" * 100 + bytes(MIB - 4196)


def test_what_was_not_written_takes_no_room_and_is_not_read(tmp_path: Path) -> None:
    target = FileTarget(str(tmp_path / "new"), replaces=False)
    fill(target, 1 << 40)
    (start, end), *more = target.ranges()
    assert not more
    assert start <= 4096 < 4196 <= end <= 1 << 20
    target.finish()
    facts = (tmp_path / "new").stat()
    assert facts.st_size == 1 << 40
    assert facts.st_blocks * 512 < MIB


def test_an_image_of_zeros_has_nothing_to_read(tmp_path: Path) -> None:
    target = FileTarget(str(tmp_path / "new"), replaces=False)
    target.clear(MIB, [Extents.whole(MIB)], lambda _: None)
    target.sync()
    assert target.ranges() == []
    target.finish()
    assert (tmp_path / "new").stat().st_size == MIB


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"precious")
    path.chmod(0o640)
    given_up = FileTarget(str(path), replaces=True)
    fill(given_up)
    given_up.abandon()
    assert given_up.leftover == f"{path} is as it was before."
    assert path.read_bytes() == b"precious"
    target = FileTarget(str(path), replaces=True)
    fill(target)
    assert path.read_bytes() == b"precious"
    target.finish()
    assert names(tmp_path) == ["old"]
    assert path.stat().st_size == MIB
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_two_restores_to_one_name_do_not_meet(tmp_path: Path) -> None:
    path = str(tmp_path / "new")
    first = FileTarget(path, replaces=False)
    with pytest.raises(BusyError, match="Another restore"):
        FileTarget(path, replaces=False)
    fill(first)
    first.finish()
    assert names(tmp_path) == ["new"]


def test_what_a_killed_restore_left_is_replaced(tmp_path: Path) -> None:
    """Its lock went with it; nothing of its content may be in the new image."""
    (tmp_path / ("new" + PARTIAL_SUFFIX)).write_bytes(b"y" * MIB)
    target = FileTarget(str(tmp_path / "new"), replaces=False)
    fill(target)
    target.finish()
    assert b"y" not in (tmp_path / "new").read_bytes()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / ("new" + PARTIAL_SUFFIX)).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        FileTarget(str(tmp_path / "new"), replaces=False)
    assert (tmp_path / "other").read_bytes() == b"precious"


def test_a_file_that_appeared_meanwhile_is_not_overwritten_and_the_image_is_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new"
    target = FileTarget(str(path), replaces=False)
    fill(target)
    path.write_bytes(b"precious")
    with pytest.raises(RefusedError, match="appeared"):
        target.finish()
    target.abandon()
    assert path.read_bytes() == b"precious"
    assert (tmp_path / ("new" + PARTIAL_SUFFIX)).stat().st_size == MIB
    assert "is whole and is kept as" in target.leftover


@pytest.mark.parametrize("appears", [False, True])
def test_a_file_system_without_links_will_do(
    appears: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(temp: str, path: str) -> None:
        raise OSError(errno.EPERM, "no links on FAT", temp, None, path)

    monkeypatch.setattr(durable, "publish", no_link)
    target = FileTarget(str(tmp_path / "new"), replaces=False)
    fill(target)
    if appears:
        (tmp_path / "new").write_bytes(b"precious")
        with pytest.raises(RefusedError, match="appeared"):
            target.finish()
        assert (tmp_path / "new").read_bytes() == b"precious"
    else:
        target.finish()
        assert names(tmp_path) == ["new"]


def test_no_room_is_a_sentence(tmp_path: Path) -> None:
    """A limit on file sizes stands for every way a file system says no."""
    target = FileTarget(str(tmp_path / "new"), replaces=False)
    target.clear(0, [GAPS], lambda _: None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(HostError, match="writing offset 1048576: File too large") as caught:
            target.write(0, memoryview(bytes(2 * MIB)))
        with pytest.raises(HostError, match="making room"):
            target.clear(2 * MIB, [GAPS], lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert "allows no file of this size" in caught.value.hint
    target.abandon()
    assert not names(tmp_path)


def test_a_partial_file_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    target = FileTarget(str(tmp_path / "new"), replaces=False)
    os.unlink(target.partial)
    target.abandon()
    assert "is left: No such file" in target.leftover
