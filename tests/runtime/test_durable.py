from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from blocksnapd.runtime import durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Killed(BaseException):
    """Ends the work where a SIGKILL would."""


def kill_at(patch: pytest.MonkeyPatch, call: int) -> None:
    """Let the first ``call`` system calls that change anything happen, and no more."""
    left = call

    def wrap(function: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return function(*args, **kwargs)

        return counted

    for name in ("fsync", "rename", "link", "writev", "unlink"):
        patch.setattr(os, name, wrap(getattr(os, name)))


def test_create_only_creates_once(tmp_path: Path) -> None:
    path = str(tmp_path / "object")
    assert durable.create_only(path, [b"one", memoryview(b" two")]) == 7
    with pytest.raises(FileExistsError):
        durable.create_only(path, [b"three"])
    assert (tmp_path / "object").read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["object"]


@pytest.mark.parametrize("call", range(6))
def test_killed_while_it_creates_there_is_nothing_or_all(tmp_path: Path, call: int) -> None:
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        kill_at(patch, call)
        durable.create_only(str(tmp_path / "object"), [b"whole"])
    left = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    named = {n: c for n, c in left.items() if not n.startswith(durable.TEMP_PREFIX)}
    assert named in ({}, {"object": b"whole"})


@pytest.mark.parametrize("call", range(5))
def test_killed_while_it_replaces_there_is_old_or_new(tmp_path: Path, call: int) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        kill_at(patch, call)
        durable.replace(str(path), b"new!")
    assert path.read_bytes() in (b"old", b"new!")


def test_replace_syncs_the_file_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "rename"):
        original = getattr(os, name)

        def noted(*args: object, name: str = name, original: object = original) -> None:
            calls.append(name)
            original(*args)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    durable.replace(str(tmp_path / "state"), b"x")
    assert calls == ["fsync", "rename", "fsync"]


def test_make_dirs_syncs_each_parent(tmp_path: Path) -> None:
    durable.make_dirs(str(tmp_path / "a/b/c"))
    durable.make_dirs(str(tmp_path / "a/b/c"))
    assert (tmp_path / "a/b/c").is_dir()


def test_append_adds_and_remove_is_content_with_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    durable.append(path, b"one\n")
    durable.append(path, b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    durable.remove(path)
    durable.remove(path)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """An open directory with an unfinished file in it."""
    (tmp_path / ".tmp-x").write_bytes(b"new")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_in_an_open_directory(
    directory: int, tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:  # as on FAT
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.publish_in(directory, b".tmp-x", b"old", replaces=False)
    assert (tmp_path / "old").read_bytes() == b"old"
    durable.publish_in(directory, b".tmp-x", b"new", replaces=False)
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]
    durable.publish_in(directory, b"new", b"old", replaces=True)
    assert (os.listdir(tmp_path), (tmp_path / "old").read_bytes()) == (["old"], b"new")


def test_another_name_of_a_link_is_a_link(directory: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    durable.link_in(directory, b"link", directory, b"second")
    assert os.readlink(tmp_path / "second") == "/nowhere"


def test_a_sync_that_is_begun_leaves_the_bytes_alone_and_errors_to_the_sync(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    with open(tmp_path / "file", "w+b", 0) as file:
        durable.write_all(file.fileno(), data)
        durable.begin_sync(file.fileno(), 1 << 20, 1 << 20)
        durable.begin_sync(file.fileno(), 8 << 20, 1 << 20)  # where nothing is
        durable.sync_file(file.fileno())
    assert (tmp_path / "file").read_bytes() == data
    closed = 1 << 20  # no process here has so many descriptors
    durable.begin_sync(closed, 0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.sync_file(closed)


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_parts_are_written_whole_however_little_goes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = os.writev
    parts = [os.urandom(n % 7) for n in range(3000)]

    def some(fd: int, views: list[memoryview]) -> int:
        return whole(fd, [memoryview(b"".join(views))[:step]])

    with open(tmp_path / "file", "wb", 0) as file:
        assert durable.write_parts(file.fileno(), parts) == len(b"".join(parts))
        monkeypatch.setattr(os, "writev", some)
        assert durable.write_parts(file.fileno(), parts) == len(b"".join(parts))
        assert durable.write_parts(file.fileno(), []) == 0
    assert (tmp_path / "file").read_bytes() == b"".join(parts) * 2
