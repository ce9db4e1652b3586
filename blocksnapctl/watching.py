"""``status --watch``: the page again and again, in place on a terminal. Edge.

A daemon that does not answer is told of and asked again: who watches wants to see it come back.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Final

from blocksnapd.control.messages import EXIT_OK
from blocksnapd.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapctl.commands import Context

EVERY_S: Final = 2.0
_BEGIN: Final = "\x1b[?7l\x1b[2J"  # long lines are cut, not wrapped
_END: Final = "\x1b[?7h"


def watch(context: Context, show: Callable[[Context], int]) -> int:
    """Call ``show`` every ``EVERY_S`` until Ctrl-C, or until --timeout is over.

    Raises:
        ProblemError, BlocksnapError: the daemon refused; only that it is away is waited out.
    """
    out = context.output
    is_drawn = sys.stdout.isatty() and not (out.as_json or out.as_plain)
    if is_drawn:
        out.framed = in_place
        sys.stdout.write(_BEGIN)
    try:
        while True:
            try:
                show(context)
            except UnreachableError as error:
                out.data(f"{error.message}. {error.effect or ''}")
            left_s = EVERY_S
            if context.deadline is not None:
                left_s = min(left_s, context.deadline - time.monotonic())
                if left_s <= 0:
                    return EXIT_OK
            time.sleep(left_s)
    finally:
        if is_drawn:
            out.framed = str
            out.data(_END)


def in_place(page: str) -> str:
    """Return what shows ``page`` in place of the page before, as much as the terminal holds."""
    lines = page.splitlines()[: max(1, shutil.get_terminal_size().lines - 1)]
    return "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"
