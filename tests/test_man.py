"""The manual page: made from its text and the command line, judged by mandoc."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blocksnapctl.arguments import PASSED_ON, make_parser
from blocksnapctl.commands import VERBS
from blocksnapctl.explanations import words
from blocksnapd.config_view import json_schema
from blocksnapd.control import messages

MAN = Path(__file__).parent.parent / "packaging" / "man"


@pytest.fixture(scope="module")
def page() -> str:
    return made("blocksnapctl.1")


def made(name: str) -> str:
    argv = [sys.executable, str(MAN / "make.py"), name]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


PAGES = ("blocksnapctl.1", "blocksnap.toml.5", "blocksnap-explain.7", "blocksnapd.8")


def read(page: str) -> str:
    """Return the page as a reader sees it."""
    found = subprocess.run(
        ["mandoc", "-Tutf8", "-O", "width=78"], input=page, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    return re.sub(".\b", "", found)


needs_mandoc = pytest.mark.skipif(
    shutil.which("mandoc") is None, reason="needs mandoc (Debian: mandoc)"
)


@needs_mandoc
@pytest.mark.parametrize("name", PAGES)
def test_it_is_in_order(name: str) -> None:
    linted = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning"], input=made(name), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (linted.returncode, linted.stdout) == (0, "")


@needs_mandoc
def test_it_opens_with_restoring(page: str) -> None:
    headings = re.findall(r"^([A-Z][A-Z ]+)$", read(page), re.MULTILINE)
    wanted = ["NAME", "RESTORING WHEN NOTHING IS LEFT BUT THE REPOSITORY AND THE KEY", "SYNOPSIS"]
    assert headings[:3] == wanted


@needs_mandoc
def test_every_verb_and_option_is_there(page: str) -> None:
    text = read(page)
    for verb in (*VERBS, *PASSED_ON):
        assert re.search(rf"^ +.*\b{verb}\b", text, re.MULTILINE), verb
    options = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", make_parser("/s").format_help()))
    assert options
    for option in (*options, "--in-place", "--detach", "--passphrase-file", "--tls-clients"):
        assert option in text, option


def test_every_exit_code_is_told(page: str) -> None:
    told = {int(code) for code in re.findall(r"^\.It (\d+)$", page, re.MULTILINE)}
    known = {value for name, value in vars(messages).items() if name.startswith("EXIT_")}
    assert told == known


def test_what_it_tells_to_type_is_understood(page: str) -> None:
    commands = [
        line.replace("\\e", "").replace("\n", " ").split("blocksnapctl ", 1)[1]
        for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", page, re.MULTILINE | re.DOTALL)
        for line in re.split(r"\n(?=blocksnapctl)", block)
    ]
    assert len(commands) == 6
    for command in commands:
        parsed = make_parser("/s").parse_args(shlex.split(command))
        assert parsed.verb in VERBS


@needs_mandoc
def test_every_code_state_and_finding_is_told() -> None:
    text = read(made("blocksnap-explain.7"))
    for word in words():
        assert re.search(rf"^ +{word}\b", text, re.MULTILINE), word


@needs_mandoc
def test_every_setting_is_told() -> None:
    """Those of the schema, which is that of the models; and the whole example."""
    text, schema = read(made("blocksnap.toml.5")), json_schema()
    models = [model for model in schema["$defs"].values() if "properties" in model]
    assert len(models) > 8
    for model in models:
        for name in model["properties"]:
            assert re.search(rf"^ +{name}\b", text, re.MULTILINE), name
    assert 'keep = ["all for 2h", "1/h for 2d"' in text


@needs_mandoc
def test_every_command_of_the_daemon_is_told() -> None:
    text = read(made("blocksnapd.8"))
    for command in ("run", "check", "config", "init", "cow", "doctor", "maintain", "drill"):
        assert re.search(rf"^ +{command}\b", text, re.MULTILINE), command


def test_all_pages_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, str(MAN / "make.py"), "--all", str(tmp_path / "man")]
    subprocess.run(argv, check=True)
    assert {file.name for file in (tmp_path / "man").iterdir()} == set(PAGES)
