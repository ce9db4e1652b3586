"""``restore`` without arguments: what it asks and takes, and that it writes nothing unasked."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.ctl.calling import Called, Terminal, call

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = "p0003000000000000"


class Place:
    """A directory that passes for a repository, and a key beside it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository, self.key, self.to = path / "repo", path / "restore.key", path / "image"
        self.repository.mkdir()
        (self.repository / "repo.json").write_text("{}")
        self.key.write_text('{"kind": "restore"}')
        monkeypatch.chdir(path)
        self._monkeypatch = monkeypatch

    def answer(self, *lines: object, words: tuple[str, ...] = ()) -> Called:
        """Say these, line by line; then nothing more comes."""
        self._monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
        return call("restore", *words, "--socket", "/nowhere/x.sock", tty=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_without_a_terminal_it_prints_what_to_type() -> None:
    found = call("restore")
    assert (found.code, found.out) == (2, "")
    commands = [shlex.split(line) for line in found.err.splitlines() if "--repo" in line]
    assert [words[3] for words in commands] == ["points", "restore", "restore"]
    assert "nobody is here" in found.err


def test_in_json_nothing_is_asked(place: Place) -> None:
    assert place.answer(words=("--json",)).code == 2


@pytest.mark.parametrize("words", [("p1",), ("--to", "x"), ("--at", "14:05"), ("--in-place",)])
def test_half_a_command_is_refused(words: tuple[str, ...]) -> None:
    found = call("restore", *words)
    assert (found.code, found.out) == (2, "")
    assert "--to PATH" in found.err


def test_it_does_what_the_command_it_shows_does(place: Place) -> None:
    # The key is found where it lies; Enter takes what stands in brackets.
    found = place.answer(place.repository, "", "vg0/home", "", "", place.to, "y")
    assert found.code == 0, found.err
    assert place.to.read_text() == f"{place.repository} {place.key} False"
    assert f"[{place.key.name}]" in found.err
    shown = next(line for line in found.err.splitlines() if " restore p" in line)
    assert shlex.split(shown) == [
        "blocksnapctl", "restore", NEWEST, "--to", str(place.to), "--repo", str(place.repository),
        "--key", str(place.key),
    ]  # fmt: skip
    place.to.unlink()
    assert call(*shlex.split(shown)[1:]).code == 0
    assert place.to.read_text() == f"{place.repository} {place.key} False"


def test_a_wrong_answer_is_told_and_asked_again(place: Place, tmp_path: Path) -> None:
    found = place.answer(
        tmp_path / "none", tmp_path, place.repository, tmp_path / "no.key", place.key,
        "vg0/none", "9", "1", "2001-01-01", "nonsense", "2026-11-22T14:00Z", "no", NEWEST[:6], "y",
        tmp_path, "/nowhere/at/all", place.repository / "x", place.to, "no",
    )  # fmt: skip
    assert found.code == 130, found.err
    assert not place.to.exists()
    for word in (
        "There is no repo.json", "is no file", "Type its number", "nearest points",
        "is no time", "p0002", "is a directory", "There is no directory", "inside the repository",
        "Nothing was written",
    ):  # fmt: skip
        assert word in found.err, word


def test_what_is_there_is_lost_only_after_it_was_said(place: Place) -> None:
    place.to.write_text("precious")
    answers = (place.repository, "", "1", "", "", place.to)
    found = place.answer(*answers, "")
    assert (found.code, place.to.read_text()) == (130, "precious")
    assert "WILL BE LOST" in found.err
    assert place.answer(*answers, "yes").code == 0
    assert place.to.read_text().endswith("True")


def test_a_damaged_point_takes_a_yes_of_its_own(place: Place, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    place.repository.rename(damaged)
    answers = (damaged, "", "1", "", "", place.to)
    found = place.answer(*answers, "no")
    assert (found.code, place.to.exists()) == (130, False)
    found = place.answer(*answers, "yes", "yes")
    assert found.code == 0, found.err
    assert "--allow-damaged" in found.err
    assert place.to.exists()


def test_a_volume_can_be_made_for_it(place: Place) -> None:
    found = place.answer(place.repository, "", "1", "", "", "vg0/back", "no")
    assert found.code == 130
    assert " --to vg0/back " in found.err


def test_whoever_leaves_has_written_nothing(place: Place) -> None:
    answers = (place.repository, "", "1", "", "", place.to)
    for count in range(len(answers) + 1):
        assert place.answer(*answers[:count]).code == 130
        assert not place.to.exists()


def test_an_interrupt_while_it_writes_is_not_told_as_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blocksnapctl.restoring.follow", interrupted)
    found = place.answer(place.repository, "", "1", "", "", place.to, "y")
    assert found.code == 130
    assert not found.err.rstrip().endswith("Nothing was written.")


def test_a_repository_that_does_not_open_is_asked_for_again(place: Place, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "repo.json").write_text("{}")
    found = place.answer(missing, "", place.repository, "", "1", "", "", place.to, "y")
    assert found.code == 0, found.err
    assert "Once more" in found.err


def test_what_was_said_with_the_command_is_the_default(place: Place) -> None:
    words = ("--repo", str(place.repository), "--key", str(place.key))
    assert place.answer("", "", "1", "", "", place.to, "y", words=words).code == 0
