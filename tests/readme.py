"""The fenced blocks of README.md, for the tests that do what it says. Edge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[1] / "README.md"
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Told(NamedTuple):
    """What a section of the README tells a reader to type and to write down, block by block."""

    commands: list[str]
    toml: list[str]


def section(heading: str) -> Told:
    """Return the blocks below ``## heading``, in their order.

    Raises:
        ValueError: there is no such section.
    """
    _, found, rest = README.read_text().partition(f"\n## {heading}\n")
    if not found:
        raise ValueError(f"README.md has no section {heading!r}")
    blocks = _FENCED.findall(rest.partition("\n## ")[0])
    return Told(*([text for language, text in blocks if language == kind] for kind in ("", "toml")))


def with_words(text: str, words: dict[str, str]) -> str:
    """Return ``text`` with some of its words replaced.

    Raises:
        ValueError: one is not in it, so that what is replaced can be no other than what is said.
    """
    for old, new in words.items():
        if old not in text:
            raise ValueError(f"README.md says {old!r} no more")
        text = text.replace(old, new)
    return text
