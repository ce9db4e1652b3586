"""The verb restore: which point, where to, and what is said of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapctl import restoring
from blocksnapctl.arguments import parse
from blocksnapctl.commands import Context
from blocksnapctl.output import Output
from blocksnapctl.restoring import Place, place_of
from blocksnapd.errors import RefusedError, UsageError
from blocksnapd.restore.file_target import PARTIAL_SUFFIX
from blocksnapd.restore.journal import JOURNAL_SUFFIX
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


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_where_to(elsewhere: Path) -> None:
    (elsewhere / "images").mkdir()
    for text, wanted in {
        "image": Place(f"{elsewhere}/image", is_new=False),
        "/dev/vg0/back": Place("/dev/vg0/back", is_new=False),
        "./vg0/back": Place(f"{elsewhere}/vg0/back", is_new=False),
        "../x": Place(f"{elsewhere.parent}/x", is_new=False),
        "images/x": Place(f"{elsewhere}/images/x", is_new=False),
        "a/b/c": Place(f"{elsewhere}/a/b/c", is_new=False),
        "vg0/back": Place("/dev/vg0/back", is_new=True),
    }.items():
        assert place_of(text) == wanted
    (elsewhere / "shm").mkdir()  # also a directory in /dev
    with pytest.raises(RefusedError, match="may be a file here or a logical volume"):
        place_of("shm/back")


def request_of(*words: str) -> dict[str, Any]:
    """Return what a command line asks of a worker."""
    arguments = parse(["restore", "p1", *words, "--key", "k"], socket_path=None)
    output = Output(io.StringIO(), io.StringIO(), arguments, {})
    return restoring._request(Context(arguments, output, []), place_of(arguments.to))


def test_what_is_asked_of_the_worker(elsewhere: Path) -> None:
    plain = {"kind": "restore", "to": f"{elsewhere}/out", "overwrite": False}
    assert request_of("--to", "out") == plain
    allowed = {"allow_damaged": True, "damaged_list": f"{elsewhere}/out.damaged"}
    assert request_of("--to", "out", "--allow-damaged") == plain | allowed
    named = request_of("--to", "out", "--allow-damaged", "--damaged-list", "here")
    assert named["damaged_list"] == f"{elsewhere}/here"
    of_device = request_of("--to", "/dev/null", "--allow-damaged", "--yes")
    assert (of_device["damaged_list"], of_device["overwrite"]) == (
        f"{elsewhere}/null.damaged",
        True,
    )
    new = request_of("--to", "vg0/back", "--allow-damaged")
    assert (new["to"], new["new"], new["overwrite"]) == ("/dev/vg0/back", True, False)
    assert new["damaged_list"] == f"{elsewhere}/back.damaged"
    (elsewhere / "old").write_text("precious")
    planned = request_of("--to", "old", "--dry-run")  # asks nothing, and touches nothing
    assert planned == plain | {"to": f"{elsewhere}/old", "overwrite": True, "dry_run": True}
    with pytest.raises(RefusedError):
        request_of("--to", "old")
    with pytest.raises(UsageError, match="belongs to --allow-damaged"):
        request_of("--to", "out", "--damaged-list", "x")


@pytest.mark.parametrize("option", ["--dry-run", "--allow-damaged", "--damaged-list=x"])
def test_in_place_knows_neither_plan_nor_damage(option: str) -> None:
    found = call("restore", "p1", "--in-place", option, "--key", "k")
    assert found.code == 2
    assert f"{option.partition('=')[0]} is not for --in-place" in found.err


def test_what_an_unfinished_one_left_is_told(elsewhere: Path) -> None:
    """By the names that the worker gives to it."""
    assert restoring.REST_SUFFIXES == (PARTIAL_SUFFIX, JOURNAL_SUFFIX)
    said = io.StringIO()
    arguments = parse(["restore", "p1", "--to", "a b"], socket_path=None)
    context = Context(arguments, Output(io.StringIO(), said, arguments, {}), [])
    restoring._tell_of_rest(context, place_of("a b"))
    assert said.getvalue() == ""
    (elsewhere / f"a b{PARTIAL_SUFFIX}").touch()
    restoring._tell_of_rest(context, place_of("a b"))
    assert said.getvalue() == (
        "The same command goes on with what is there. To give it up: "
        f"rm '{elsewhere}/a b{PARTIAL_SUFFIX}'\n"
    )
