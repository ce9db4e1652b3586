"""Real file systems made of real trees without root, and how a copy compares with its source."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from typing import TYPE_CHECKING, Any

from blocksnapd.files.copying import Copying
from blocksnapd.files.paths import find
from blocksnapd.files.source import ImageSource
from blocksnapd.files.volumes import chosen, volumes_of

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.files.copying import Report
    from blocksnapd.files.nodes import FileSystem

MIB = 1 << 20
MKFS_ENVIRONMENT = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class FileImage:
    """What file systems need of a ``PointImage``, over a file of the host."""

    block_size = 4096
    point: Any = None

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.size = path.stat().st_size

    def read_into(self, offset: int, view: memoryview) -> None:
        done = os.preadv(self._fd, [view], offset)
        assert done == len(view)

    def __del__(self) -> None:
        os.close(self._fd)


class BytesImage:
    """The same over bytes that a test changes."""

    block_size = 4096
    point: Any = None

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content
        self.size = len(content)

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.content[offset : offset + len(view)]


def open_files(image: Any, number: int | None = None) -> FileSystem:
    return chosen(volumes_of(ImageSource(image)), number)


def copy(files: FileSystem, path: bytes, to: Path, *, overwrite: bool = False) -> Report:
    work = Copying(files, progress=lambda _: None, cancelled=lambda: False, overwrite=overwrite)
    node, name = find(files, path)
    work.copy(node, name, str(to), recursive=True)
    return work.report


def make_tree(top: Path, *, is_special: bool = True, names: int = 500) -> None:
    """Make whatever a file system has to show for itself."""
    noise = random.Random(4)
    top.mkdir()
    (top / "empty").touch()
    (top / "small").write_bytes(b"a few bytes\n")
    (top / "odd").write_bytes(noise.randbytes(70_001))
    (top / "large").write_bytes(noise.randbytes(MIB + 17))
    for place, size in (("holes", 300_000), ("tail", 9 * MIB), ("all-hole", 5 * MIB)):
        with (top / place).open("wb") as file:
            if place != "all-hole":
                file.write(noise.randbytes(5000))
                file.seek(200_000)
                file.write(noise.randbytes(4096))
            file.truncate(size)
    deep = top
    for level in range(40):
        deep = deep / f"level {level}"
        deep.mkdir()
    (deep / "bottom").write_bytes(b"deep")
    many = top / "many"
    many.mkdir()
    for number in range(names):
        (many / f"{'name' * (number % 50)}-{number}").write_bytes(b"x" * (number % 90))
    (top / ("n" * 255)).touch()
    (top / "änderung ☃").write_bytes(b"utf-8")
    (top / os.fsdecode(b"latin-\xe4\xff")).write_bytes(b"not utf-8")
    (top / "link").symlink_to("small")
    (top / "long-link").symlink_to("../" * 60 + "x" * 300)
    (top / "dangling").symlink_to("/nowhere/at/all")
    if is_special:
        os.link(top / "odd", many / "hard")
        os.link(top / "odd", top / "hard too")
        os.mkfifo(top / "fifo")
        os.setxattr(top / "small", "user.one", b"1" * 40)
        os.setxattr(top / "small", "user.empty", b"")
        os.setxattr(many, "user.dir", b"of a directory")
        os.setxattr(top / "odd", "user.big", noise.randbytes(500))
    (top / "small").chmod(0o4751)
    (top / "odd").chmod(0o600)
    many.chmod(0o1777)
    for number, place in enumerate(sorted(top.iterdir())):
        if not place.is_symlink():
            os.utime(place, ns=(10**18, 1_600_000_000_123_456_789 + number * 10**15))


def ext_image(path: Path, tree: Path, *words: str, size: int = 64 * MIB) -> Path:
    """Make an image of ``tree``; ``words`` are for mkfs."""
    run("mke2fs", "-q", "-F", "-d", str(tree), *words, str(path), f"{size >> 10}k")
    return path


def xfs_image(path: Path, tree: Path, *words: str) -> Path:
    """Make an image of ``tree``, by a prototype; it knows no colon and no blank in names."""
    lines = ["boot", "0 0", *_prototype(tree, is_top=True)]
    plan = path.with_suffix(".proto")
    plan.write_bytes(b"\n".join(os.fsencode(line) for line in lines) + b"\n")
    with path.open("wb") as file:
        file.truncate(320 * MIB)
    run("mkfs.xfs", "-q", "-f", "-p", str(plan), *words, str(path))
    return path


def _prototype(place: Path, *, is_top: bool = False) -> list[str]:
    facts = place.lstat()
    bits = "".join(
        letter if facts.st_mode & bit else "-"
        for bit, letter in ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"))
    )
    head = f"{bits}{stat.S_IMODE(facts.st_mode) & 0o777:03o} {facts.st_uid} {facts.st_gid}"
    name = "" if is_top else f"{place.name} "
    if place.is_symlink():
        return [f"{name}l{head} {os.readlink(place)}"]
    if place.is_dir():
        inner = [line for found in sorted(place.iterdir()) for line in _prototype(found)]
        return [f"{name}d{head}", *inner, "$"]
    return [f"{name}-{head} {place}"]


def run(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env=MKFS_ENVIRONMENT, timeout=60
    )
    assert done.returncode == 0, done
    return done.stdout


def facts_of(place: Path, *, whole_ns: bool = True, with_times: bool = True) -> dict[str, Any]:
    """Return all that is to be kept of a file, comparable."""
    found = place.lstat()
    kind = stat.S_IFMT(found.st_mode)
    told: dict[str, Any] = {"mode": found.st_mode, "owner": (found.st_uid, found.st_gid)}
    if with_times:
        told["mtime"] = found.st_mtime_ns if whole_ns else found.st_mtime_ns // 10**9
    if kind == stat.S_IFLNK:
        told |= {"to": os.readlink(place), "mtime": 0}
    else:
        told["xattrs"] = {n: os.getxattr(place, n) for n in os.listxattr(place)}
    if kind == stat.S_IFREG:
        told |= {"content": place.read_bytes(), "links": found.st_nlink}
    return told


def names_of(top: Path) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(where, name), top)
        for where, directories, files in os.walk(top)
        for name in (*directories, *files)
    )


def assert_same(source: Path, copied: Path, *, left_out: tuple[str, ...] = (), **how: bool) -> None:
    """Compare every byte and attribute."""
    wanted = [name for name in names_of(source) if name not in left_out]
    assert names_of(copied) == wanted
    for name in wanted:
        assert facts_of(copied / name, **how) == facts_of(source / name, **how), name
