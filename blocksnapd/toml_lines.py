"""Where in a TOML text each key stands: what ``tomllib`` does not tell. Pure.

The text was accepted by ``tomllib`` already, so this scanner only has to find table headers,
keys at the start of a line and the ends of values that go over several lines. A key inside an
inline table is not listed; its nearest listed parent stands for it.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Path: TypeAlias = tuple[str, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
# What decides where a value ends: strings and comments are jumped over as a whole.
_TOKEN = re.compile(
    r'''
      """(?:[^\\]|\\.)*?"{3,5} | \'\'\'.*?\'{3,5}   # texts over several lines
    | "(?:[^"\\\n]|\\.)*" | \'[^\'\n]*\'          # texts
    | \#[^\n]* | [\[\]{}\n]
    ''',
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, of every table header and key in ``text``."""
    lines: dict[Path, int] = {}
    table: Path = ()
    position = 0
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        if found := _HEADER.match(text, position):
            table = _split(found[1])
            lines.setdefault(table, line + found[0].count("\n", 0, _lead(found)))
        elif found := _KEY.match(text, position):
            path = table + _split(found[1])
            lines.setdefault(path, line + found[0].count("\n", 0, _lead(found)))
        position = _value_end(text, found.end() if found else position)
    return lines


def format_path(path: Path) -> str:
    """Return ``path`` as TOML writes it: ``volume."vg0/home".every``."""
    plain = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(part if plain.fullmatch(part) else f'"{part}"' for part in path)


def _lead(found: re.Match[str]) -> int:
    return found.start(1) - found.start()


def _split(dotted: str) -> Path:
    parts = re.findall(_PART, dotted)
    return tuple(re.sub(r"\\(.)", r"\1", p[1:-1]) if p[0] in "\"'" else p for p in parts)


def _value_end(text: str, position: int) -> int:
    """Return where the line after the value at ``position`` begins."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)
