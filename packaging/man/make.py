"""Prints the manual page: ``blocksnapctl.1.in`` with what the command line says of itself put in.

    python packaging/man/make.py > blocksnapctl.1

A verb or option that is added is in the page by itself; what there is to tell of it beside its
help belongs into the page's own text.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from blocksnapctl.arguments import make_parser
from blocksnapd import __version__
from blocksnapd.control.messages import DEFAULT_SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("blocksnapctl.1.in")


def page() -> str:
    """Return the page, in mdoc(7)."""
    parser = make_parser(DEFAULT_SOCKET)
    shared = {name for action in parser._actions for name in action.option_strings}
    inserted = {
        ".\\\" OPTIONS": _options(parser, set()),
        ".\\\" VERBS": (line for verb in _verbs(parser) for line in _verb(*verb, shared)),
    }  # fmt: skip
    lines: list[str] = []
    for line in SOURCE.read_text().replace("@VERSION@", __version__).splitlines():
        lines += inserted.get(line, [line])
    return "\n".join(lines) + "\n"


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    choices = cast("dict[str, argparse.ArgumentParser]", action.choices)
    for said in action._choices_actions:
        name = said.dest.split()[0]
        yield name, said.help or "", choices[name]


def _verb(
    name: str, text: str, parser: argparse.ArgumentParser, shared: set[str]
) -> Iterator[str]:  # fmt: skip
    yield f".It Cm {name} {_positionals(parser)}".rstrip()
    yield _text(text)
    aliases = [a for a in parser._actions if not a.option_strings and a.help]
    yield from (_text(f"{a.metavar or a.dest}: {_help(a)}.") for a in aliases)
    options = list(_options(parser, shared))
    if len(options) > 2:
        yield from options


def _positionals(parser: argparse.ArgumentParser) -> str:
    words = []
    for action in parser._actions:
        if action.option_strings:
            continue
        word = f"Ar {action.metavar or action.dest}"
        word = f"{word} ..." if action.nargs in {"*", "+"} else word
        words.append(f"Op {word}" if action.nargs in {"?", "*"} else word)
    return " ".join(words)


def _options(parser: argparse.ArgumentParser, shared: set[str]) -> Iterator[str]:
    yield ".Bl -tag -width Ds -compact"
    for action in parser._actions:
        if not action.option_strings or shared.intersection(action.option_strings):
            continue
        names = " , ".join(f"Fl {name[1:].replace('-', 'Fl ', 1) if name[1] == '-' else name[1:]}"
                           for name in action.option_strings)  # fmt: skip
        value = f" Ar {action.metavar}" if action.nargs is None and action.metavar else ""
        yield f".It {names}{value}"
        yield _text(_help(action))
    yield ".El"


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": "blocksnapctl"}


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\e")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    sys.stdout.write(page())
