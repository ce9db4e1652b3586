"""The command line: options before and after the verb, what is passed on."""

from __future__ import annotations

import pytest

from blocksnapctl.arguments import PASSED_ON, parse, passed_on
from blocksnapd.control.messages import DEFAULT_SOCKET


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "--socket", "/s", "status", "v"],
        ["status", "v", "--json", "--socket", "/s"],
        ["--json", "status", "--socket", "/s", "v"],
    ],
)
def test_options_stand_before_or_after_the_verb(argv: list[str]) -> None:
    found = parse(argv, socket_path=None)
    assert (found.json, found.socket, found.volumes) == (True, "/s", ["v"])


def test_where_the_socket_s_path_comes_from() -> None:
    assert parse(["status"], socket_path=None).socket == DEFAULT_SOCKET
    assert parse(["status"], socket_path="/env").socket == "/env"
    assert parse(["status", "--socket", "/s"], socket_path="/env").socket == "/s"


def test_run() -> None:
    found = parse(["trigger", "a", "b", "--tag", "x", "--tag", "y"], socket_path=None)
    assert (found.verb, found.volumes, found.tag) == ("run", ["a", "b"], ["x", "y"])
    assert (found.wait, found.full, found.timeout, found.repo) == (False, False, None, None)
    assert parse(["run", "a", "--timeout", "1m30s"], socket_path=None).timeout == 90


def test_restore_goes_to_one_place() -> None:
    found = parse(["restore", "p", "--to", "x", "--key", "k"], socket_path=None)
    assert (found.yes, found.passphrase_file) == (False, None)
    with pytest.raises(SystemExit):
        parse(["restore", "p", "--to", "x", "--in-place"], socket_path=None)


def test_events_since_may_be_negative() -> None:
    assert parse(["events"], socket_path=None).since == -50
    assert parse(["events", "--since", "-3"], socket_path=None).since == -3


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], []),
        (["status"], []),
        (["run", "doctor"], []),
        (["--socket", "doctor", "status"], []),
        (["--timeout", "1s", "-v", "cow", "create"], ["cow", "create"]),
        (["--json", "doctor"], ["doctor", "--json"]),
        (["doctor", "--fix", "--json"], ["doctor", "--fix", "--json"]),
        (["--json", "--target", "/r", "status"], ["receive", "--status", "--root", "/r", "--json"]),
        (
            ["--target", "/r", "status", "--config", "c"],
            ["receive", "--status", "--root", "/r", "--config", "c"],
        ),
        (["--target", "/r", "points"], []),
        *[([verb], [verb]) for verb in PASSED_ON],
    ],
)
def test_passed_on(argv: list[str], wanted: list[str]) -> None:
    assert passed_on(argv) == wanted


def test_a_receiver_s_directory_has_nothing_but_a_status(capsys) -> None:
    for argv in (["--target", "/r", "points"], ["--target=/r", "status"]):
        with pytest.raises(SystemExit):
            parse(argv, socket_path=None)
        assert "--target ROOT status" in capsys.readouterr().err


def test_prune() -> None:
    found = parse(["prune"], socket_path=None)
    assert (found.volume, found.dry_run, found.apply, found.keep) == (None, False, None, [])
    argv = ["prune", "v", "-n", "--keep", "all for 2h", "--keep", "1/h for 2d", "--undelete", "3d",
            "--keep-tag", "x*", "--min-points", "1", "--max-delete-pct", "50"]  # fmt: skip
    found = parse(argv, socket_path=None)
    assert (found.volume, found.dry_run, found.keep) == ("v", True, ["all for 2h", "1/h for 2d"])
    assert (found.keep_tag, found.undelete, found.min_points) == (["x*"], 3 * 86_400, 1)
    with pytest.raises(SystemExit):
        parse(["prune", "--dry-run", "--apply", "pl-1"], socket_path=None)


@pytest.mark.parametrize("verb", ["hold", "release", "undelete"])
def test_verbs_about_one_point(verb: str) -> None:
    assert parse([verb, "p1", "--key", "k"], socket_path=None).point == "p1"
    with pytest.raises(SystemExit):
        parse([verb], socket_path=None)
