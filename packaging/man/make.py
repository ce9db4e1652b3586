"""Prints a manual page: its text with what the program says of itself put in; or writes all.

    python packaging/man/make.py blocksnapctl.1 > blocksnapctl.1
    python packaging/man/make.py --all DIRECTORY

A verb, option, setting or code that is added is in its page by itself; what there is to tell of it
beside its help belongs into the page's own text, ``NAME.in``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blocksnapctl import explanations
from blocksnapctl.arguments import make_parser
from blocksnapd import __version__, config_view
from blocksnapd.__main__ import _parser as daemon_parser
from blocksnapd.control.messages import DEFAULT_SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "blocksnap.toml"
PAGES = tuple(sorted(file.name.removesuffix(".in") for file in HERE.glob("*.in")))


def page(name: str) -> str:
    """Return the page ``name``, one of ``PAGES``, in mdoc(7)."""
    inserted = {f'.\\" {key}': lines for key, lines in _parts(name)}
    lines: list[str] = []
    for line in (HERE / f"{name}.in").read_text().replace("@VERSION@", __version__).splitlines():
        lines += inserted.get(line, [line])
    return "\n".join(lines) + "\n"


def _parts(name: str) -> Iterator[tuple[str, list[str]]]:
    if name == "blocksnap-explain.7":
        for key, table in (("STATES", explanations.STATES), ("CODES", explanations.CODES),
                           ("FINDINGS", explanations.FINDINGS)):  # fmt: skip
            yield key, list(_explained(table))
    elif name == "blocksnap.toml.5":
        yield "SECTIONS", list(_sections(config_view.json_schema()))
        yield "EXAMPLE", [_escaped(line) for line in EXAMPLE.read_text().splitlines()]
    else:
        parser = daemon_parser() if name == "blocksnapd.8" else make_parser(DEFAULT_SOCKET)
        shared = {name for action in parser._actions for name in action.option_strings}
        yield "OPTIONS", list(_options(parser, set()))
        yield "VERBS", [line for verb in _verbs(parser) for line in _verb(*verb, shared)]


def _explained(table: Mapping[str, explanations.Explanation]) -> Iterator[str]:
    for word, (cause, effect, do) in table.items():
        yield from (f".It Sy {word}", _text(cause), ".br", _text(effect), ".br")
        yield _text(f"Do: {do}")


def _sections(schema: dict[str, Any]) -> Iterator[str]:
    """Yield a list of settings for each table of the file, with what its models say of it."""
    named = {"volume": '[volume."NAME"]'}
    for key, found in schema["properties"].items():
        if key == "schema":
            continue
        model, is_named = _model(schema, found)
        yield f".Ss {named.get(key, f'[{key}.NAME]' if is_named else f'[{key}]')}"
        if key == "volume":
            yield "The settings of [defaults], for one volume."
        else:
            yield from _settings(schema, model)


def _model(schema: dict[str, Any], found: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    found = next((f for f in found.get("anyOf", []) if f.get("type") != "null"), found)
    is_named = "additionalProperties" in found
    found = found["additionalProperties"] if is_named else found
    return schema["$defs"][found["$ref"].rsplit("/", 1)[1]], is_named


def _settings(schema: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    yield _text(_sentence(model.get("description", "")))
    yield ".Bl -tag -width Ds -compact"
    for name, said in model["properties"].items():
        inner = _reference(schema, said)
        default = f", default {json.dumps(said['default'])}" if said.get("default") else ""
        need = "needed" if name in model.get("required", []) else "optional"
        yield f".It Li {name}"
        yield _text(f"{_kind(said)}, {need}{default}.")
        if inner is not None:
            yield from _settings(schema, inner)
    yield ".El"


def _reference(schema: dict[str, Any], said: dict[str, Any]) -> dict[str, Any] | None:
    """Return the model of a setting that is a table, or a list of tables, itself."""
    for found in (said, said.get("items", {}), *said.get("anyOf", [])):
        if "$ref" in found:
            model: dict[str, Any] = schema["$defs"][found["$ref"].rsplit("/", 1)[1]]
            return model if "properties" in model else None
    return None


def _kind(said: dict[str, Any]) -> str:
    words = {"string": "text", "integer": "whole number", "number": "number", "array": "list",
             "boolean": "true or false", "object": "table"}  # fmt: skip
    if "anyOf" in said:
        return " or ".join(_kind(one) for one in said["anyOf"] if one.get("type") != "null")
    if "enum" in said:
        return "one of " + ", ".join(map(str, said["enum"]))
    if said.get("type") == "array" and "$ref" in said.get("items", {}):
        return "list of tables"
    return words.get(str(said.get("type")), "table")


def _sentence(text: str) -> str:
    return " ".join(text.replace("``", "").split())


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
        yield from filter(None, [_text(_help(action))])
    yield ".El"


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": "blocksnapctl"}


def _text(text: str) -> str:
    """Return a text for mdoc, each of its sentences on a line of its own."""
    return "\n".join(map(_escaped, re.split(r"(?<=[.!?]) +(?=[A-Z])", text)))


def _escaped(line: str) -> str:
    line = line.replace("\\", "\\e")
    return f"\\&{line}" if line.startswith((".", "'")) else line


def main() -> int:
    """Print the page named, or write all of them into a directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("page", nargs="?", choices=PAGES, default="blocksnapctl.1")
    parser.add_argument("--all", metavar="DIRECTORY", type=Path)
    arguments = parser.parse_args()
    if arguments.all is None:
        sys.stdout.write(page(arguments.page))
        return 0
    arguments.all.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (arguments.all / name).write_text(page(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
