"""The verb ``completion``: a script that lets a shell complete verbs and options. Edge.

It is made by shtab from the tree of arguments, so that it knows what this version knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.control.messages import DEFAULT_SOCKET, EXIT_OK, SCHEMA
from blocksnapd.errors import NotFoundError

if TYPE_CHECKING:
    from blocksnapctl.commands import Context


def completion(context: Context) -> int:
    """Print the script."""
    try:
        import shtab  # nothing else has a use for it
    except ImportError as error:
        raise NotFoundError(
            "the scripts are made by the Python package shtab, which is not here",
            effect="Nothing was printed.",
            hint="Packages bring the scripts; otherwise: pip install 'blocksnap[completion]'.",
        ) from error
    from blocksnapctl.arguments import make_parser

    shell, out = context.arguments.shell, context.output
    script = shtab.complete(make_parser(DEFAULT_SOCKET), shell)
    if out.as_json:
        out.document({"schema": SCHEMA, "shell": shell, "script": script})
    else:
        out.data(script)
    return EXIT_OK
