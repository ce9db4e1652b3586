"""The text in which LVM keeps what is in a volume group → nested dictionaries. Pure.

    name { key = value  list = ["a", 1]  section { … } }   # a comment

Source: lvm2, lib/config/config.c and lib/format_text/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH_MAX: Final = 8
TEXT_SIZE_MAX: Final = 16 << 20
_TOKEN: Final = re.compile(
    r"""\s+ | \#[^\n]* | (?P<string>"(?:[^"\\]|\\.)*") | (?P<mark>[{}\[\]=,])
    | (?P<word>[A-Za-z0-9_.+-]+)""",
    re.VERBOSE,
)
_ESCAPED: Final = re.compile(r"\\(.)")

Section = dict[str, Any]


def parse(text: str) -> Section:
    """Return the sections and values of ``text``; numbers are int, the last of a name counts.

    Raises:
        FormatError: it is no such text.
    """
    tokens = _tokens(text)
    return _section(tokens, 0)


def _tokens(text: str) -> Iterator[str]:
    """Yield words, marks, and strings with a quotation mark before them."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _damaged()
        at = found.end()
        if found["string"]:
            yield '"' + _ESCAPED.sub(r"\1", found["string"][1:-1])
        elif found[0].strip() and not found[0].startswith("#"):
            yield found[0]


def _section(tokens: Iterator[str], depth: int) -> Section:
    found: Section = {}
    if depth > DEPTH_MAX:
        raise _damaged()
    for name in tokens:
        if name == "}" and depth:
            return found
        mark = next(tokens, "")
        if mark == "{":
            found[name] = _section(tokens, depth + 1)
        elif mark == "=":
            found[name] = _value(next(tokens, ""), tokens)
        else:
            raise _damaged()
    if depth:
        raise _damaged()
    return found


def _value(first: str, tokens: Iterator[str]) -> Any:
    if first.startswith('"'):
        return first[1:]
    if first != "[":
        try:
            return int(first)
        except ValueError:
            raise _damaged() from None
    found: list[Any] = []
    for inner in tokens:
        if inner == "]":
            return found
        if inner != ",":
            found.append(_value(inner, iter(())))
    raise _damaged()


def _damaged() -> FormatError:
    return FormatError("the metadata of a volume group is damaged")
