"""Where text goes: data to standard output, talk to standard error. Edge.

With ``--json`` every document is one line; the last line of a failure has ``"type": "error"``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blocksnapd.control.messages import failed_exit_code

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from blocksnapd.control.messages import Problem

CLEAR_LINE = "\r\x1b[K"


class Output:
    """Both streams, and how they are to be used."""

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        arguments: argparse.Namespace,
        environ: Mapping[str, str],
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.as_json: bool = arguments.json
        self.as_plain: bool = arguments.plain and not arguments.json
        self.is_quiet: bool = arguments.quiet
        self.is_verbose: bool = arguments.verbose
        is_dull = bool(environ.get("NO_COLOR")) or environ.get("TERM", "dumb") == "dumb"
        wants_plain = arguments.no_color or self.as_json or self.as_plain
        self.is_coloured = stdout.isatty() and not is_dull and not wants_plain
        self.is_animated = (
            stderr.isatty() and environ.get("TERM", "dumb") != "dumb"
            and not self.is_quiet and not self.as_json
        )  # fmt: skip
        self._has_progress = False
        self.framed: Callable[[str], str] = str  # how a page stands among others

    def data(self, text: str) -> None:
        """Print what was asked for."""
        self._clear()
        if text:
            self._stdout.write(self.framed(text if text.endswith("\n") else f"{text}\n"))
            self._stdout.flush()

    def document(self, value: Mapping[str, Any]) -> None:
        """Print one JSON document on one line."""
        self.data(json.dumps(value, ensure_ascii=False))

    def say(self, text: str) -> None:
        """Tell the operator something beside the data."""
        if text and not self.is_quiet:
            self._clear()
            self._stderr.write(f"{text}\n")
            self._stderr.flush()

    def progress(self, text: str) -> None:
        """Show ``text`` until the next one, on a terminal; nowhere else."""
        if self.is_animated:
            self._stderr.write(f"{CLEAR_LINE}{text}")
            self._stderr.flush()
            self._has_progress = True

    def problem(self, found: Problem) -> int:
        """Tell what went wrong, what it means and what to do; return the exit code for it."""
        self._clear()
        lines = [f"blocksnapctl: {found.get('message', 'failed')} [{found.get('code', '?')}]"]
        lines += [f"  {found[key]}" for key in ("effect", "hint") if found.get(key)]
        self._stderr.write("".join(f"{printable(line)}\n" for line in lines))
        self._stderr.flush()
        if self.as_json:
            self.document({"schema": 1, **found, "type": "error"})
        return failed_exit_code(found)

    def _clear(self) -> None:
        if self._has_progress:
            self._stderr.write(CLEAR_LINE)
            self._stderr.flush()
        self._has_progress = False


def printable(text: str) -> str:
    """Return ``text`` without anything that could steer a terminal; line ends become indents."""
    text = text.replace("\n", "\n  ")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
