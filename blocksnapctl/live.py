"""The verb ``top``: all volumes on the whole of a terminal, anew every second, until q. Edge."""

from __future__ import annotations

import select
import shutil
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from blocksnapctl import render_top
from blocksnapctl.zone import local_now
from blocksnapd.control.messages import EXIT_OK
from blocksnapd.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocksnapctl.commands import Context
    from blocksnapd.control.messages import Status

EVERY_S: Final = 1.0
_ENDS: Final = "qQ"
# Another screen, no cursor, long lines cut; and all of it undone.
_BEGIN: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_END: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"


def top(context: Context) -> int:
    """Show the page until q, Ctrl-C, or --timeout is over.

    Raises:
        UsageError: there is no terminal. ProblemError, BlocksnapError: the daemon refused; only
            that it is away is waited out.
    """
    out = context.output
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or out.as_json or out.as_plain:
        raise UsageError(
            "top needs a terminal",
            effect="Nothing was asked.",
            hint="blocksnapctl status --watch goes anywhere, also with --json and --plain.",
        )
    with _whole_screen():
        while context.deadline is None or time.monotonic() < context.deadline:
            size = shutil.get_terminal_size()
            sys.stdout.write(_over(_page(context, size.columns, size.lines - 1)))
            sys.stdout.flush()
            if select.select([sys.stdin], [], [], EVERY_S)[0] and sys.stdin.read(1) in _ENDS:
                break
    return EXIT_OK


def _page(context: Context, columns: int, lines: int) -> str:
    try:
        found = cast("Status", context.daemon.get("status"))
        events = [cast("Any", e) for e in context.daemon.stream("events", since=str(-lines))]
    except UnreachableError as error:
        return f"{error.message}. {error.effect or ''}\n\n{render_top.FOOT}\n"
    return render_top.page(
        found, events, columns=columns, lines=lines,
        colour=context.output.is_coloured, zone=local_now().tzinfo,
    )  # fmt: skip


def _over(page: str) -> str:
    """Return what shows ``page`` in place of the one before."""
    return "\x1b[H" + page.replace("\n", "\x1b[K\n") + "\x1b[J"


@contextmanager
def _whole_screen() -> Iterator[None]:
    """Take the terminal, keys at once and unseen; give it back as it was, however this ends."""
    before = termios.tcgetattr(sys.stdin)
    was = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_BEGIN)
        yield
    finally:
        sys.stdout.write(_END)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, was)
