"""``POINT:2:/path`` → a point, a volume of its image, a path. Edge: asks which points there are.

Points and paths both have colons and slashes in them: ``latest:/srv/disk.img:/etc``,
``vg0/home@2026-11-22T14:05:/etc``. So every way to read the text is tried, the longest name of a
point first, and the first that names a point is meant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from blocksnapctl.choosing import found_point, selector_of
from blocksnapctl.client import ProblemError
from blocksnapd.errors import BlocksnapError, NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse

    from blocksnapctl.client import Client
    from blocksnapctl.output import Output

_NUMBERED = re.compile(r"(.+):(\d{1,4})")
_PASSED_OVER = (NotFoundError.code, UsageError.code)


class Place(NamedTuple):
    """What a text may mean; ``path`` is "" for the file systems themselves."""

    selector: str
    part: int | None
    path: str


def readings(text: str) -> list[Place]:
    """Return every way to read ``text``, the likeliest first; never empty."""
    splits = []
    if text.endswith(":"):
        splits.append((text[:-1], ""))
    at = len(text)
    while (at := text.rfind(":/", 0, at)) > 0:
        splits.append((text[:at], text[at + 1 :]))
    splits.append((text, ""))
    found = []
    for left, path in splits:
        found.append(Place(left, None, path))
        numbered = _NUMBERED.fullmatch(left)
        if numbered:
            found.append(Place(numbered[1], int(numbered[2]), path))
    return found


def found_place(
    output: Output, client: Client, arguments: argparse.Namespace, text: str
) -> tuple[dict[str, Any], Place]:
    """Return the point that ``text`` names, with what it says of a volume and a path.

    Raises:
        ProblemError, BlocksnapError: it names none; the error is of the likeliest reading.
    """
    first: Exception | None = None
    for place in readings(text):
        selector = selector_of(arguments, place.selector) or ""
        try:
            return found_point(output, client, selector), place
        except ProblemError as error:
            if error.problem.get("code") not in _PASSED_OVER:
                raise
            first = first or error
        except BlocksnapError as error:
            if error.code not in _PASSED_OVER:
                raise
            first = first or error
    assert first is not None
    raise first
