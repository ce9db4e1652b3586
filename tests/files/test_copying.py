"""Copying out of file systems that lie: nothing outside the target, an end, and the truth told."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    FormatError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from blocksnapd.files import copying, writing
from blocksnapd.files.copying import Copying
from blocksnapd.files.listing import SORTED_MAX, listed
from blocksnapd.files.nodes import Entry, Node, Run, checked_name
from blocksnapd.files.paths import find
from blocksnapd.files.source import ImageSource
from tests.files.corpus import BytesImage, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = 2
NOW = 1_700_000_000_123_456_789
NOBODY = os.geteuid() == 0


class Tree:
    """A ``FileSystem`` in memory, as honest as a test wants it; the disk is 64 KiB of bytes."""

    kind, label = "fake", ""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.source: Any = ImageSource(BytesImage(bytes(range(256)) * 256))
        self.root = ROOT
        self.nodes = {ROOT: self.made(ROOT, stat.S_IFDIR | 0o755)}
        self.names: dict[int, list[tuple[bytes, int]]] = {ROOT: []}
        self.data: dict[int, list[Run]] = {}
        self.links: dict[int, bytes] = {}
        self.attributes: dict[int, list[tuple[bytes, bytes]]] = {}
        self.damaged: set[int] = set()

    @staticmethod
    def made(number: int, mode: int, size: int = 0) -> Node:
        return Node(number, mode, os.geteuid(), os.getegid(), 1, size, NOW, NOW, (0, 0), b"")

    def add(self, parent: int, name: bytes, mode: int, size: int = 0) -> int:
        number = len(self.nodes) + 10
        self.nodes[number] = self.made(number, mode, size)
        self.names[number] = []
        self.names[parent].append((name, number))
        return number

    def file(self, parent: int, name: bytes, *runs: Run, size: int = 0) -> int:
        number = self.add(parent, name, stat.S_IFREG | 0o640, size or sum(r.length for r in runs))
        self.data[number] = list(runs)
        return number

    def link(self, node: Node) -> bytes:
        return self.links[node.number]

    def node(self, number: int) -> Node:
        if number in self.damaged:
            raise FormatError(f"inode {number} is not in use")
        return self.nodes[number]

    def entries(self, node: Node) -> Iterator[Entry]:
        for name, number in self.names[node.number]:
            yield Entry(checked_name(name), number, 0)

    def runs(self, node: Node) -> Iterator[Run]:
        yield from self.data.get(node.number, [])

    def inline(self, node: Node) -> bytes | None:
        return None

    def xattrs(self, node: Node) -> list[tuple[bytes, bytes]]:
        return self.attributes.get(node.number, [])


@pytest.fixture
def tree() -> Tree:
    return Tree()


def copied(tree: Tree, to: Path, path: bytes = b"/", **how: bool) -> copying.Report:
    work = Copying(
        tree, progress=lambda _: None, cancelled=lambda: False,
        overwrite=how.get("overwrite", False),
    )  # fmt: skip
    node, name = find(tree, path)
    work.copy(node, name, str(to), recursive=how.get("recursive", True))
    return work.report


def test_hostile_names_write_nowhere(tree: Tree, tmp_path: Path) -> None:
    for name in (b"../out", b"/etc/x", b"a\0b", b"", b"x" * 256):
        inner = tree.add(ROOT, b"dir%d" % len(tree.nodes), stat.S_IFDIR | 0o755)
        tree.file(inner, name, Run(0, 0, 10))
        tree.file(inner, b"behind it", Run(0, 0, 10))
    tree.file(ROOT, b"whole", Run(0, 0, 10))
    report = copied(tree, tmp_path / "to")
    assert report.damaged_count == 5
    assert all("impossible name" in text for text in report.damaged)
    assert [n for n in names_of(tmp_path / "to") if "dir" not in n] == ["whole"]
    assert names_of(tmp_path)[0] == "to"
    assert not [n for n in names_of(tmp_path) if not n.startswith("to")]


def test_links_are_made_and_never_followed(tree: Tree, tmp_path: Path) -> None:
    """A link, then a directory of the same name: what is in it must not go where the link leads."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tree.add(ROOT, b"same", stat.S_IFLNK | 0o777, 5)
    tree.links[link] = os.fsencode(outside)
    directory = tree.add(ROOT, b"same", stat.S_IFDIR | 0o755)
    tree.file(directory, b"escaped", Run(0, 0, 10))
    tree.file(ROOT, b"same", Run(0, 0, 10))
    for overwrite in (False, True):
        report = copied(tree, tmp_path / f"to {overwrite}", overwrite=overwrite)
        assert list(outside.iterdir()) == []
        assert report.notes
    assert (tmp_path / "to False/same").is_symlink()


def test_a_link_in_the_target_is_not_entered(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to/inner").symlink_to(outside)
    (tmp_path / "to/file").symlink_to(outside / "file")
    inner = tree.add(ROOT, b"inner", stat.S_IFDIR | 0o755)
    tree.file(inner, b"escaped", Run(0, 0, 10))
    tree.file(ROOT, b"file", Run(0, 0, 10))
    report = copied(tree, tmp_path / "to", overwrite=True)
    assert list(outside.iterdir()) == []
    assert [text for text in report.sentences() if "inner" in text]
    assert not (tmp_path / "to/file").is_symlink(), "replaced, not followed"
    assert (tmp_path / "to/file").read_bytes() == bytes(range(10))


def test_directories_that_contain_themselves_end(tree: Tree, tmp_path: Path) -> None:
    inner = tree.add(ROOT, b"inner", stat.S_IFDIR | 0o755)
    tree.names[inner] += [(b"up", ROOT), (b"self", inner)]
    other = tree.add(inner, b"other", stat.S_IFDIR | 0o755)
    tree.names[other].append((b"loop", inner))
    report = copied(tree, tmp_path / "to")
    assert sorted(names_of(tmp_path / "to")) == ["inner", "inner/other"]
    assert report.damaged_count == 3
    parts = list(listed(tree, tree.nodes[ROOT], b"/", recursive=True, is_long=False))
    assert [p["directory"] for p in parts if "directory" in p] == ["/", "/inner", "/inner/other"]
    assert len([p for p in parts if "note" in p]) == 3


def test_more_directories_than_can_be_open(tree: Tree, tmp_path: Path) -> None:
    deep = ROOT
    for _ in range(copying.DEPTH_MAX + 50):
        deep = tree.add(deep, b"d", stat.S_IFDIR | 0o755)
    report = copied(tree, tmp_path / "to")
    assert report.directories == copying.DEPTH_MAX
    assert "directories deep" in report.sentences()[0]


def test_exabytes_of_holes_are_holes(tree: Tree, tmp_path: Path) -> None:
    tree.file(ROOT, b"exabytes", Run(0, 0, 100), size=1 << 60)
    tree.file(ROOT, b"more", Run(0, 0, 100), size=(1 << 63) - 1)
    tree.file(ROOT, b"terabyte", Run((1 << 40) - 512, 0, 512), size=1 << 40)
    report = copied(tree, tmp_path / "to")
    for name in names_of(tmp_path / "to"):
        assert (tmp_path / "to" / name).stat().st_blocks < 100
    # What the disk here can't hold is told and not there.
    assert report.files + sum(count for count, _ in report.notes.values()) == 3
    assert (tmp_path / "to/terabyte").stat().st_size == 1 << 40


def test_what_would_fill_the_disk_is_stopped(tree: Tree, tmp_path: Path) -> None:
    """Many files that all name the same blocks."""
    for number in range(40):
        tree.file(ROOT, b"f%d" % number, Run(0, 0, 65536))
    with pytest.raises(RefusedError, match="16 times"):
        copied(tree, tmp_path / "to")
    assert len(names_of(tmp_path / "to")) == copying.SHARE_MAX


def test_what_exists_stays_unless_it_may_be_replaced(tree: Tree, tmp_path: Path) -> None:
    tree.file(ROOT, b"file", Run(0, 0, 10))
    to = tmp_path / "there"
    to.write_bytes(b"mine")
    with pytest.raises(RefusedError, match="exists"):
        copied(tree, to, b"/file")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_bytes(b"mine")
    with pytest.raises(RefusedError, match="exists"):
        copied(tree, tmp_path / "dir", b"/file")
    with pytest.raises(RefusedError, match="not empty"):
        copied(tree, tmp_path / "dir", b"/")
    assert (to.read_bytes(), (tmp_path / "dir/file").read_bytes()) == (b"mine", b"mine")
    copied(tree, to, b"/file", overwrite=True)
    copied(tree, tmp_path / "dir", b"/", overwrite=True)
    assert to.read_bytes() == (tmp_path / "dir/file").read_bytes() == bytes(range(10))
    assert sorted(names_of(tmp_path)) == ["dir", "dir/file", "there"], "nothing unfinished stays"


def test_what_is_no_file_is_never_replaced(tree: Tree, tmp_path: Path) -> None:
    """Such as a device, or a directory."""
    tree.file(ROOT, b"one", Run(0, 0, 10))
    tree.file(ROOT, b"two", Run(0, 0, 10))
    (tmp_path / "to").mkdir()
    (tmp_path / "to/one").mkdir()
    os.mkfifo(tmp_path / "to/two")
    report = copied(tree, tmp_path / "to", overwrite=True)
    assert [count for count, _ in report.notes.values()] == [2]
    assert stat.S_ISFIFO((tmp_path / "to/two").stat().st_mode)
    with pytest.raises(RefusedError, match="no file"):
        copied(tree, tmp_path / "to/two", b"/two", overwrite=True)
    assert names_of(tmp_path / "to") == ["one", "two"]


def test_what_cannot_be_copied_so(tree: Tree, tmp_path: Path) -> None:
    tree.add(ROOT, b"fifo", stat.S_IFIFO | 0o600)
    with pytest.raises(UsageError, match="directory"):
        copied(tree, tmp_path / "to", recursive=False)
    with pytest.raises(UsageError, match="fifo"):
        copied(tree, tmp_path / "to", b"/fifo")
    with pytest.raises(NotFoundError):
        copied(tree, tmp_path / "no/such/place")
    assert names_of(tmp_path) == []


def test_damage_is_left_out_and_told(tree: Tree, tmp_path: Path) -> None:
    tree.file(ROOT, b"good", Run(0, 0, 100))
    tree.file(ROOT, b"outside", Run(0, 65000, 1000))
    tree.damaged.add(tree.file(ROOT, b"gone"))
    report = copied(tree, tmp_path / "to")
    assert names_of(tmp_path / "to") == ["good"]
    assert report.damaged_count == 2
    with pytest.raises(FormatError):
        copied(tree, tmp_path / "alone", b"/outside")
    assert not (tmp_path / "alone").exists()


def test_a_damaged_point_ends_nothing_else(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(offset: int, length: int) -> bytes:
        raise ChecksumError("block 7 is damaged")

    tree.file(ROOT, b"bad", Run(0, 0, 100))
    tree.add(ROOT, b"link", stat.S_IFLNK | 0o777)
    tree.links[tree.names[ROOT][-1][1]] = b"there"
    monkeypatch.setattr(tree.source, "read_at", broken)
    report = copied(tree, tmp_path / "to")
    assert report.damaged == ["to/bad: block 7 is damaged"]
    assert os.readlink(tmp_path / "to/link") == "there"


def test_a_cancelled_copy_leaves_no_half_file(tree: Tree, tmp_path: Path) -> None:
    tree.file(ROOT, b"one", Run(0, 0, 65536))
    asked = iter([False, True])
    work = Copying(tree, progress=lambda _: None, cancelled=lambda: next(asked), overwrite=False)
    with pytest.raises(CancelledRunError):
        work.copy(tree.nodes[ROOT], b"", str(tmp_path / "to"), recursive=True)
    assert names_of(tmp_path / "to") == []


@pytest.mark.skipif(not NOBODY, reason="only root can give files away")
def test_owners_and_what_goes_with_them(tree: Tree, tmp_path: Path) -> None:
    number = tree.file(ROOT, b"tool", Run(0, 0, 10))
    tree.nodes[number] = replace(tree.nodes[number], uid=1234, gid=99, mode=stat.S_IFREG | 0o6755)
    tree.attributes[number] = [(b"user.note", b"kept"), (b"strange.name", b"not")]
    report = copied(tree, tmp_path / "to")
    facts = (tmp_path / "to/tool").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode) == (1234, 99, stat.S_IFREG | 0o6755)
    assert facts.st_mtime_ns == NOW
    assert os.getxattr(tmp_path / "to/tool", "user.note") == b"kept"
    assert [t for t in report.sentences() if t.startswith("attribute strange.… not kept")]


def test_who_is_not_root_keeps_no_foreign_owner_nor_its_power(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing.os, "geteuid", lambda: 1000)
    number = tree.file(ROOT, b"tool", Run(0, 0, 10))
    tree.nodes[number] = replace(tree.nodes[number], uid=54321, mode=stat.S_IFREG | 0o6755)
    report = copied(tree, tmp_path / "to")
    assert (tmp_path / "to/tool").stat().st_mode == stat.S_IFREG | 0o755
    assert any("set-user-id" in text for text in report.sentences())
    assert any("only root" in text for text in report.sentences())


def test_large_directories_come_as_they_are_stored(tree: Tree) -> None:
    number = tree.file(ROOT, b"z")
    count = SORTED_MAX + 700
    tree.names[ROOT] += [(b"%06d" % (count - i), number) for i in range(count)]
    parts = list(listed(tree, tree.nodes[ROOT], b"/", recursive=False, is_long=True))
    assert "large" in parts[0]["remark"]
    assert max(len(p["entries"]) for p in parts[1:]) == 500
    names = [e["name"] for p in parts[1:] for e in p["entries"]]
    assert sorted(names) == sorted(["z", *(f"{i:06d}" for i in range(1, count + 1))])


def test_entries_tell_what_is_asked_for(tree: Tree) -> None:
    tree.file(ROOT, b"caf\xc3\xa9", Run(0, 0, 3))
    tree.file(ROOT, b"caf\xe9", Run(0, 0, 3))
    tree.damaged.add(tree.file(ROOT, b"bad"))
    (part,) = listed(tree, tree.nodes[ROOT], b"/", recursive=False, is_long=True)
    bad, good, latin = sorted(part["entries"], key=lambda e: "raw" in e)
    assert (bad["type"], "inode" in bad["problem"]) == ("damaged", True)
    assert (good["name"], good["size"], good["mtime_ns"], "raw" in good) == ("café", 3, NOW, False)
    assert (latin["raw"], latin["mode"]) == ("caf%E9", 0o640)
