"""XFS as mkfs.xfs makes it of a tree, in several geometries: the copy is the tree."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import FormatError
from blocksnapd.files.source import ImageSource
from blocksnapd.files.xfs_log import is_clean
from blocksnapd.files.xfs_maps import Geometry
from tests.files.corpus import (
    MKFS_ENVIRONMENT,
    FileImage,
    assert_same,
    copy,
    make_tree,
    open_files,
    xfs_image,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("mkfs.xfs", path=MKFS_ENVIRONMENT["PATH"]) is None, reason="no mkfs.xfs here"
)
KINDS = {
    "v5": (),
    "v5-1k": ("-b", "size=1024"),
    "v5-many": ("-i", "nrext64=1,size=1024", "-n", "size=16384"),
    "v4": ("-m", "crc=0", "-n", "ftype=0"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("source") / "tree"
    make_tree(top, is_special=False, names=500)
    # A prototype knows no blank in a name and no sticky bit; links that are too long for an inode
    # mkfs.xfs writes as no kernel would read them.
    (top / "long-link").unlink()
    (top / "long-link").symlink_to("x/" * 120)
    shutil.rmtree(top / "level 0")
    (top / "änderung ☃").unlink()
    (top / "many").chmod(0o755)
    return top


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_the_tree(kind: str, tree: Path, tmp_path: Path) -> None:
    image = xfs_image(tmp_path / "image", tree, *KINDS[kind])
    files = open_files(FileImage(image))
    assert files.notes == []
    report = copy(files, b"/", tmp_path / "copy")
    assert report.damaged == []
    assert report.sentences() == []
    # A prototype says no times, and lays holes out as zeros.
    assert_same(tree, tmp_path / "copy", with_times=False)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XFS with nothing in it."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "tree").mkdir()
    return xfs_image(folder / "image", folder / "tree")


def test_a_superblock_out_of_order_is_refused(empty: Path) -> None:
    with empty.open("rb") as file:
        data = bytearray(file.read(512))
    for at, value in ((4, b"\0\0\0\1"), (84, b"\0\0\0\0"), (88, bytes(4)), (100, b"\0\3"),
                      (104, b"\0\7"), (124, b"\x50"), (192, b"\x20"), (216, b"\1")):  # fmt: skip
        changed = data.copy()
        changed[at : at + len(value)] = value
        with pytest.raises(FormatError):
            Geometry(bytes(changed))
    assert Geometry(bytes(data)).root


def test_a_log_that_was_written_to_is_not_clean(empty: Path) -> None:
    """What mkfs leaves is clean; another record where the next one belongs is not."""
    with empty.open("r+b") as file:
        geometry = Geometry(file.read(512))
        assert is_clean(ImageSource(FileImage(empty)), geometry)
        at = start = geometry.address(geometry.log_start) * geometry.block_size
        file.seek(start)
        record = file.read(512)
        while file.read(4) in (b"\xfe\xed\xba\xbe", b"\0\0\0\1"):
            at += 512
            file.seek(at)
        file.seek(at)
        file.write(record)
    assert not is_clean(ImageSource(FileImage(empty)), geometry)
    assert "log was not replayed" in open_files(FileImage(empty)).notes[0]
