"""ext2, ext3 and ext4 as mke2fs makes them of a tree: the copy is the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from blocksnapd.errors import FormatError, NotFoundError
from blocksnapd.files.nodes import NAME_LENGTH_MAX
from blocksnapd.files.paths import find
from blocksnapd.files.source import PAGE_SIZE, ImageSource
from tests.files.corpus import (
    MKFS_ENVIRONMENT,
    BytesImage,
    FileImage,
    assert_same,
    copy,
    ext_image,
    make_tree,
    open_files,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("mke2fs", path=MKFS_ENVIRONMENT["PATH"]) is None, reason="no mke2fs here"
)
KINDS = {
    "ext4": ("-t", "ext4"),
    "ext4-1k": ("-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit"),
    "ext4-inline": ("-t", "ext4", "-O", "inline_data", "-I", "1024"),
    "ext4-meta-groups": ("-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024"),
    "ext4-bigalloc": ("-t", "ext4", "-O", "bigalloc,sparse_super2"),
    "ext4-64k": ("-t", "ext4", "-b", "65536"),
    "ext3": ("-t", "ext3", "-b", "1024"),
    "ext2-old": ("-t", "ext2", "-O", "none,ext_attr", "-I", "128", "-r", "1"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("source") / "tree"
    make_tree(top)
    return top


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_the_tree(kind: str, tree: Path, tmp_path: Path) -> None:
    size = 256 << 20 if kind == "ext4-64k" else 96 << 20
    image = ext_image(tmp_path / "image", tree, *KINDS[kind], size=size)
    files = open_files(FileImage(image))
    assert files.notes == []
    report = copy(files, b"/", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "lost+found")
    assert report.damaged == []
    # mke2fs keeps times in whole seconds.
    left_out = ["fifo"]
    if kind == "ext4-inline":  # mke2fs forgets a hole at the end of what begins in an inode
        left_out += ["holes", "tail", "all-hole"]
        for name in left_out[1:]:
            (tmp_path / "copy" / name).unlink()
    assert_same(tree, tmp_path / "copy", left_out=tuple(left_out), whole_ns=False)
    assert [text for text in report.sentences() if "fifo" not in text] == []
    assert report.notes["left out: a fifo"] == (1, "copy/fifo")
    assert (tmp_path / "copy/odd").stat().st_ino == (tmp_path / "copy/many/hard").stat().st_ino
    for sparse in {"tail", "all-hole"} - set(left_out):
        assert (tmp_path / "copy" / sparse).stat().st_blocks * 512 < 500_000


def test_paths_follow_links_within_the_image_only(tree: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "a/b").mkdir(parents=True)
    (inner / "a/b/file").write_bytes(b"here")
    (inner / "up").symlink_to("../../../../a")
    (inner / "root").symlink_to("/a/b")
    (inner / "loop").symlink_to("loop/x")
    files = open_files(FileImage(ext_image(tmp_path / "image", inner, "-t", "ext4")))
    for path in (b"/a/b/file", b"//a/./b/../b/file", b"/up/b/file", b"/root/file", b"/../a/b/file"):
        node, name = find(files, path)
        assert (node.size, name) == (4, b"file")
    assert find(files, b"/root")[0].is_link
    assert find(files, b"/root/")[0].is_directory
    for path in (b"/loop/y", b"/a/b/file/", b"/a/b/file/x", b"/nothing", b"/a/" + b"x" * 5000):
        with pytest.raises(NotFoundError):
            find(files, path)


def test_a_log_to_replay_is_told(tree: Path, tmp_path: Path) -> None:
    image = ext_image(tmp_path / "image", tree, "-t", "ext4")
    data = bytearray(image.read_bytes())
    data[1024 + 0x60] |= 0x4
    assert "journal was not replayed" in open_files(BytesImage(data)).notes[0]


def test_what_is_not_understood_is_refused(tree: Path, tmp_path: Path) -> None:
    image = ext_image(tmp_path / "image", tree, "-t", "ext4")
    data = bytearray(image.read_bytes())
    data[1024 + 0x63] |= 0x40
    with pytest.raises(FormatError, match="not understood"):
        open_files(BytesImage(data))


def test_an_encrypted_file_is_not_handed_out(tree: Path, tmp_path: Path) -> None:
    image = ext_image(tmp_path / "image", tree, "-t", "ext4")
    told = subprocess.run(
        ["debugfs", "-w", "-R", "set_inode_field /odd flags 0x80800", str(image)],
        capture_output=True, text=True, check=True, env=MKFS_ENVIRONMENT,
    )  # fmt: skip
    assert told.returncode == 0
    files = open_files(FileImage(image))
    node, _ = find(files, b"/odd")
    with pytest.raises(FormatError, match="encrypted"):
        list(files.runs(node))
    report = copy(files, b"/", tmp_path / "copy")
    # The file has three names, and none of them is made.
    assert sorted(text.split(":")[0] for text in report.damaged) == [
        "copy/hard too",
        "copy/many/hard",
        "copy/odd",
    ]
    assert not (tmp_path / "copy/odd").exists()
    assert (tmp_path / "copy/large").read_bytes() == (tree / "large").read_bytes()


def test_unwritten_blocks_are_zero_whatever_is_on_the_disk(tmp_path: Path) -> None:
    """What was there before belongs to somebody else."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"secret!!" * 4096)
    image = ext_image(tmp_path / "image", tree, "-t", "ext4")
    files = open_files(FileImage(image))
    node, _ = find(files, b"/file")
    data = bytearray(image.read_bytes())
    at = data.find(node.raw[0x28:0x64]) + 12  # behind the tree's header: number, length, place
    for extent in range(at, at + 48, 12):
        length = int.from_bytes(data[extent + 4 : extent + 6], "little")
        if length:
            data[extent + 4 : extent + 6] = (length + 0x8000).to_bytes(2, "little")
    files = open_files(BytesImage(data))
    node, _ = find(files, b"/file")
    assert node.size == 32768
    assert list(files.runs(node)) == []


def test_reads_in_pieces_are_reads_of_the_whole(tmp_path: Path) -> None:
    content = os.urandom(3 * PAGE_SIZE + 100)
    source = ImageSource(BytesImage(content))
    for offset, length in ((0, 1), (PAGE_SIZE - 3, 6), (5, 2 * PAGE_SIZE), (3 * PAGE_SIZE, 100)):
        assert source.read_at(offset, length) == content[offset : offset + length]
    for offset, length in ((-1, 4), (len(content), 1), (0, len(content) + 1), (1 << 70, 1)):
        with pytest.raises(FormatError):
            source.read_at(offset, length)
    assert NAME_LENGTH_MAX == 255
