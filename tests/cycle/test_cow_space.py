"""The file under a COW space, on this host's file system; the devices are the lab's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blocksnapd.cycle import cow_space
from blocksnapd.cycle.cow_space import CowSpace
from blocksnapd.errors import RefusedError, SpaceError

MIB = 1 << 20


def test_the_file_is_sparse_private_and_made_once(tmp_path: Path) -> None:
    space = CowSpace(str(tmp_path / "cow"), "vg")
    assert len(cow_space._make_file(space, 64 * MIB)) == 1
    facts = os.stat(space.file)
    assert (facts.st_size, facts.st_mode & 0o777) == (64 * MIB, 0o600)
    assert facts.st_blocks * 512 < MIB
    assert cow_space._make_file(space, 64 * MIB) == []
    assert cow_space.disk_room(space.file).held < MIB


def test_a_set_up_that_died_before_the_size_was_set_goes_on(tmp_path: Path) -> None:
    space = CowSpace(str(tmp_path / "cow"), "vg")
    Path(space.file).touch()
    assert cow_space._make_file(space, MIB)
    assert os.stat(space.file).st_size == MIB


def test_a_file_that_begins_like_a_physical_volume_is_taken(tmp_path: Path) -> None:
    space = CowSpace(str(tmp_path / "cow"), "vg")
    Path(space.file).write_bytes(bytes(512) + b"LABELONE" + bytes(MIB))
    assert cow_space._make_file(space, MIB) == []


@pytest.mark.parametrize("content", [b"precious", bytes(2048) + b"LABELONE", b"LABELON" * 99])
def test_somebody_elses_file_is_never_touched(tmp_path: Path, content: bytes) -> None:
    space = CowSpace(str(tmp_path / "cow"), "vg")
    Path(space.file).write_bytes(content)
    with pytest.raises(RefusedError):
        cow_space._make_file(space, MIB)
    assert Path(space.file).read_bytes() == content


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "cow").symlink_to(tmp_path / "target")
    with pytest.raises(RefusedError):
        cow_space._make_file(CowSpace(str(tmp_path / "cow"), "vg"), MIB)
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_the_watermark_on_the_disk_under_it(tmp_path: Path) -> None:
    file = tmp_path / "cow"
    file.touch()
    cow_space.check_room(str(file), 0)
    with pytest.raises(SpaceError, match="reserve") as caught:
        cow_space.check_room(str(file), 1 << 60)
    assert caught.value.hint


def test_a_file_whose_disk_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="is not there"):
        cow_space.disk_room(str(tmp_path / "gone"))
