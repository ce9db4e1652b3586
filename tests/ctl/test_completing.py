"""completion: each script in the real shell, asked what it would offer."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from blocksnapctl import completing
from tests.ctl.calling import call

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 60.0
ASKED = [
    ("blocksnapctl sta", {"status"}),
    ("blocksnapctl config s", {"show", "schema"}),
    ("blocksnapctl restore --in", {"--in-place"}),
]
needs_fish = pytest.mark.skipif(not shutil.which("fish"), reason="needs fish (Debian: fish)")
needs_zsh = pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh (Debian: zsh)")


def script(tmp_path: Path, shell: str) -> Path:
    found = call("completion", shell)
    assert (found.code, found.err) == (0, "")
    made = tmp_path / f"_{shell}"
    made.write_text(found.out)
    return made


@pytest.mark.parametrize(("line", "offered"), ASKED)
def test_bash(tmp_path: Path, line: str, offered: set[str]) -> None:
    asked = (
        f"source {script(tmp_path, 'bash')}; "
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "function=$(complete -p blocksnapctl | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); "
        '$function; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asked], capture_output=True, text=True, timeout=LIMIT_S,
        check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) == offered


@needs_fish
@pytest.mark.parametrize(("line", "offered"), ASKED)
def test_fish(tmp_path: Path, line: str, offered: set[str]) -> None:
    asked = f"source {script(tmp_path, 'fish')}; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", asked], capture_output=True, text=True, timeout=LIMIT_S,
        check=True, env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    assert {row.split("\t")[0] for row in done.stdout.splitlines()} == offered


@needs_zsh
def test_zsh(tmp_path: Path) -> None:
    """It completes for people at a terminal only, so one types."""
    made = script(tmp_path, "zsh").rename(tmp_path / "_blocksnapctl")
    process, terminal = pty.fork()
    if process == 0:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "vt100"}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environ)
    try:
        type_in(terminal, f"fpath=({made.parent} $fpath); PROMPT='ready> '\n")
        type_in(terminal, "autoload -U compinit; compinit -u -D; print loaded$((40 + 2))\n")
        shown = until(terminal, "loaded42")
        type_in(terminal, "blocksnapctl exp\t")
        shown = until(terminal, "export", "explain")
        assert "Offer a point as a disk over NBD" in shown
        type_in(terminal, "\x15blocksnapctl undel\t")
        until(terminal, "undelete")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def type_in(terminal: int, text: str) -> None:
    os.write(terminal, text.encode())


def until(terminal: int, *wanted: str) -> str:
    shown, deadline = "", time.monotonic() + LIMIT_S
    while not all(word in shown for word in wanted):
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def test_another_shell_and_json() -> None:
    assert call("completion", "tcsh").code == 2
    assert call("completion", "bash", "--json").lines[0]["shell"] == "bash"
    assert completing.completion.__doc__
