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
from blocksnapd.control import messages

MAN = Path(__file__).parent.parent / "packaging" / "man"


@pytest.fixture(scope="module")
def page() -> str:
    made = [sys.executable, str(MAN / "make.py")]
    return subprocess.run(made, capture_output=True, text=True, check=True).stdout


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
def test_it_is_in_order(page: str) -> None:
    linted = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning"], input=page, capture_output=True, text=True,
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
